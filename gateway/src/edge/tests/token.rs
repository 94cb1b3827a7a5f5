//! Tokens in the form of OAuth 2, and the keys, over a socket.

use serde_json::Value;

use super::server::{Answer, Server};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
const RIGHT: &str = "grant_type=password&username=ada&password=right";

async fn post(server: &Server, headers: &str, body: &[u8]) -> Answer {
    server
        .send(&format!("POST /auth/token\n{headers}"), body)
        .await
}

fn json(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("no JSON: {answer:?}"))
}

#[tokio::test]
async fn a_grant_is_answered_as_the_specification_has_it() {
    let server = Server::start(&[]).await;
    let granted = |by: &str| format!("{by} - 127.0.0.1 true");
    // what, further headers, body, access token
    let cases = [
        ("a password", "", RIGHT.to_owned(), granted("ada")),
        (
            "a refresh token",
            "",
            "grant_type=refresh_token&refresh_token=good".into(),
            granted("refreshed"),
        ),
        (
            "a tenant",
            "",
            format!("{RIGHT}&tenant=acme"),
            "ada acme 127.0.0.1 true".into(),
        ),
        (
            "what tools send besides",
            "",
            format!("{RIGHT}&scope=a+b&client_id=tool&client_secret=x&resource=1&resource=2&&"),
            granted("ada"),
        ),
        (
            "nothing counts as left out",
            "",
            format!("{RIGHT}&tenant=&refresh_token=&nothing"),
            granted("ada"),
        ),
        (
            "encoded",
            "",
            "grant_type=password&username=a%64a%40x+y%2b%C3%A9&password=%72ight".into(),
            granted("ada@x y+é"),
        ),
        (
            "a client's name in a header",
            "Authorization: Basic dG9vbDo=",
            RIGHT.into(),
            granted("ada"),
        ),
        (
            "another credential",
            "Authorization: Bearer bad\nX-API-Key: bad",
            RIGHT.into(),
            granted("ada"),
        ),
        (
            "any taste",
            "Accept: text/html",
            RIGHT.into(),
            granted("ada"),
        ),
    ];
    for (what, headers, body, token) in cases {
        let answer = post(&server, &format!("{FORM}\n{headers}"), body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
        let expected = serde_json::json!({
            "access_token": token, "token_type": "Bearer", "expires_in": 3599, "refresh_token": "next",
        });
        assert_eq!(json(&answer), expected, "{what}");
        for (name, value) in [
            ("cache-control", "no-store"),
            ("pragma", "no-cache"),
            ("content-type", "application/json"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(answer.headers[name], value, "{what}: {name}");
        }
    }
    let charset = "Content-Type: Application/X-WWW-Form-Urlencoded; charset=UTF-8";
    assert_eq!(post(&server, charset, RIGHT.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_specifications_words() {
    let server = Server::start(&[("WEFT_LIMITS__MUTATION_TIMEOUT_MS", "200")]).await;
    let long = format!("{RIGHT}&x={}", "x".repeat(16 * 1024));
    let with = |password: &str| format!("grant_type=password&username=ada&password={password}");
    let (json_type, form) = ("Content-Type: application/json", FORM);
    let charset = format!("{FORM}; charset=latin1");
    let twice = format!("{FORM}\n{FORM}");
    let encoded = format!("{FORM}\nContent-Encoding: gzip");
    let on_behalf = format!("{FORM}\nWeft-On-Behalf-Of: user_1");
    type Case<'a> = (&'a str, &'a str, Vec<u8>, u16, &'a str, &'a str);
    let case =
        |what: &'static str, body: &str, error: &'static str, part: &'static str| -> Case<'_> {
            (what, form, body.as_bytes().to_vec(), 400, error, part)
        };
    let mut cases: Vec<Case<'_>> = vec![
        case("nothing", "", "invalid_request", "`grant_type` is missing"),
        case(
            "an empty kind",
            "grant_type=&username=ada&password=right",
            "invalid_request",
            "`grant_type` is missing",
        ),
        case(
            "another kind",
            "grant_type=client_credentials",
            "unsupported_grant_type",
            "password or refresh_token",
        ),
        case(
            "another spelling",
            "grant_type=Password&username=ada&password=right",
            "unsupported_grant_type",
            "",
        ),
        case(
            "no name",
            "grant_type=password&password=right",
            "invalid_request",
            "`username` is missing",
        ),
        case(
            "no password",
            "grant_type=password&username=ada&password=",
            "invalid_request",
            "`password` is missing",
        ),
        case(
            "no refresh token",
            "grant_type=refresh_token",
            "invalid_request",
            "`refresh_token` is missing",
        ),
        case(
            "twice",
            &format!("{RIGHT}&username=ada"),
            "invalid_request",
            "`username` is there twice",
        ),
        case(
            "twice, once empty",
            &format!("{RIGHT}&tenant=&tenant=acme"),
            "invalid_request",
            "`tenant` is there twice",
        ),
        case(
            "twice, once encoded",
            &format!("{RIGHT}&p%61ssword=x"),
            "invalid_request",
            "`password` is there twice",
        ),
        case(
            "a scope twice",
            &format!("{RIGHT}&scope=a&scope=b"),
            "invalid_request",
            "`scope` is there twice",
        ),
        case(
            "no text",
            "grant_type=password&username=%FF&password=right",
            "invalid_request",
            "`username` is not UTF-8",
        ),
        case("too long", &long, "invalid_request", "16384 bytes"),
        case("a wrong password", &with("wrong"), "invalid_grant", "wrong"),
        case(
            "a wrong refresh token",
            "grant_type=refresh_token&refresh_token=bad",
            "invalid_grant",
            "wrong",
        ),
        case(
            "letters that may not be said",
            &with("odd"),
            "invalid_request",
            "username: got '? ??'",
        ),
    ];
    let right = || RIGHT.as_bytes().to_vec();
    cases.extend([
        (
            "JSON",
            json_type,
            b"{}".to_vec(),
            400,
            "invalid_request",
            "x-www-form-urlencoded",
        ),
        (
            "no type",
            "",
            right(),
            400,
            "invalid_request",
            "x-www-form-urlencoded",
        ),
        (
            "another charset",
            &charset,
            right(),
            400,
            "invalid_request",
            "UTF-8",
        ),
        (
            "two types",
            &twice,
            right(),
            400,
            "invalid_request",
            "x-www-form-urlencoded",
        ),
        (
            "compressed",
            &encoded,
            right(),
            400,
            "invalid_request",
            "compressed",
        ),
        (
            "for another",
            &on_behalf,
            right(),
            400,
            "invalid_request",
            "Weft-On-Behalf-Of",
        ),
        (
            "bytes",
            form,
            b"grant_type=password&username=\xff&password=right".to_vec(),
            400,
            "invalid_request",
            "UTF-8",
        ),
        (
            "too fast",
            form,
            with("fast").into_bytes(),
            429,
            "temporarily_unavailable",
            "too many attempts",
        ),
        (
            "not now",
            form,
            with("broken").into_bytes(),
            503,
            "temporarily_unavailable",
            "try again",
        ),
        (
            "too slow",
            form,
            with("never").into_bytes(),
            504,
            "temporarily_unavailable",
            "200 ms",
        ),
    ]);
    for (what, headers, body, status, error, part) in cases {
        let answer = post(&server, headers, &body).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        let said = json(&answer);
        assert_eq!(said["error"], error, "{what}: {answer:?}");
        let description = said["error_description"].as_str().unwrap();
        assert!(description.contains(part), "{what}: {description}");
        assert!(!answer.body.contains("access_token"), "{what}");
        assert_eq!(answer.headers["cache-control"], "no-store", "{what}");
        assert_eq!(answer.headers["pragma"], "no-cache", "{what}");
        let retry = answer.headers.get("retry-after").map(String::as_str);
        assert_eq!(retry, (status == 429).then_some("2"), "{what}");
        // a client that is to authenticate itself would ask its user for what does not exist
        assert!(!answer.headers.contains_key("www-authenticate"), "{what}");
    }
    let in_the_address = server
        .send(&format!("POST /auth/token?{RIGHT}\n{FORM}"), b"")
        .await;
    assert_eq!(in_the_address.status, 400, "{in_the_address:?}");
    assert_eq!(json(&in_the_address)["error"], "invalid_request");
    let get = server.send(&format!("GET /auth/token?{RIGHT}"), b"").await;
    assert_eq!(get.status, 405, "{get:?}");
    let panics = post(&server, FORM, with("panic").as_bytes()).await;
    assert_eq!(panics.status, 500);
    let closed = Server::closed(&[], |_| {}).await;
    let answer = post(&closed, FORM, RIGHT.as_bytes()).await;
    assert_eq!(
        (answer.status, answer.headers["retry-after"].as_str()),
        (503, "1"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn pages_of_others_get_no_tokens() {
    let server = Server::start(&[("WEFT_CORS_ORIGINS", "https://app.example.com")]).await;
    for origin in ["https://evil.example", "null", "http://localhost:1"] {
        let answer = post(
            &server,
            &format!("{FORM}\nOrigin: {origin}"),
            RIGHT.as_bytes(),
        )
        .await;
        assert_eq!(answer.status, 403, "{origin}: {answer:?}");
        assert_eq!(json(&answer)["error"], "access_denied");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    let own = format!("{FORM}\nOrigin: http://{}", server.address);
    let answer = post(&server, &own, RIGHT.as_bytes()).await;
    assert_eq!(json(&answer)["access_token"], "ada - 127.0.0.1 true");
    let allowed = "Origin: https://app.example.com";
    let answer = post(&server, &format!("{FORM}\n{allowed}"), RIGHT.as_bytes()).await;
    assert_eq!(json(&answer)["access_token"], "ada - 127.0.0.1 false");
    assert_eq!(
        answer.headers["access-control-allow-origin"],
        "https://app.example.com"
    );
    assert!(
        !answer
            .headers
            .contains_key("access-control-allow-credentials")
    );

    let ask = |origin: &str| {
        format!("OPTIONS /auth/token\n{origin}\nAccess-Control-Request-Method: POST")
    };
    let preflight = server.send(&ask(allowed), b"").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.headers["access-control-allow-methods"], "POST");
    let preflight = server.send(&ask("Origin: https://evil.example"), b"").await;
    assert!(
        !preflight
            .headers
            .contains_key("access-control-allow-methods")
    );

    let rebound = post(
        &server,
        &format!("{FORM}\nHost: evil.example"),
        RIGHT.as_bytes(),
    )
    .await;
    assert_eq!(rebound.status, 421);
    let forwarded = post(
        &server,
        &format!("{FORM}\nX-Forwarded-For: 192.0.2.1"),
        RIGHT.as_bytes(),
    )
    .await;
    assert_eq!(
        json(&forwarded)["access_token"],
        "ada - 127.0.0.1 true",
        "nobody is trusted"
    );
}

#[tokio::test]
async fn keys_may_be_kept() {
    let server = Server::start(&[]).await;
    let path = "GET /.well-known/jwks.json";
    let answer = server.send(path, b"").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, r#"{"keys":[{"kid":"k"}]}"#);
    assert_eq!(answer.headers["cache-control"], "public, max-age=300");
    // headers come in lower case here
    let tag = answer.headers["etag"].replace("w/", "W/");
    let again = server
        .send(&format!("{path}\nIf-None-Match: \"x\", {tag}"), b"")
        .await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    assert_eq!(again.headers["cache-control"], "public, max-age=300");
    let other = server
        .send(&format!("{path}\nIf-None-Match: W/\"0\""), b"")
        .await;
    assert_eq!(other.status, 200);
    let posted = server.send("POST /.well-known/jwks.json", b"").await;
    assert_eq!(posted.status, 405);
    let closed = Server::closed(&[], |_| {}).await;
    let answer = closed.send(path, b"").await;
    assert_eq!(
        (answer.status, answer.headers["cache-control"].as_str()),
        (503, "no-store")
    );
}
