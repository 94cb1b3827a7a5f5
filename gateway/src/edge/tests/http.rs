//! Every rule of the HTTP side, tried over a socket.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    server::{Answer, Server},
    toy::Toy,
};
use crate::edge::Listener;

const NEW: &str = "application/graphql-response+json; charset=utf-8";
const OLD: &str = "application/json; charset=utf-8";

#[tokio::test]
async fn requests_and_their_answers() {
    let server = Server::start(&[
        ("WEFT_LIMITS__MAX_REQUEST_BYTES", "4096"),
        ("WEFT_LIMITS__MAX_DOCUMENT_BYTES", "1024"),
    ])
    .await;
    let long = format!(r#"{{"query":"{{ hello }}","x":"{}"}}"#, "x".repeat(4096));
    let long_query = format!(r#"{{"query":"{{ hello }} #{}"}}"#, "x".repeat(1024));
    let deep_json = format!(
        r#"{{"query":"{{ hello }}","variables":{{"a":{}1{}}}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    let aliases = format!(
        r#"{{"query":"{{ {} }}"}}"#,
        (0..31).map(|i| format!("a{i}: hello ")).collect::<String>()
    );
    let depth = format!(
        r#"{{"query":"{}x{}"}}"#,
        "{a".repeat(15) + "{",
        "}".repeat(16)
    );
    let (json, text) = ("Content-Type: application/json", "Content-Type: text/plain");
    let old = "Content-Type: application/json\nAccept: application/json";
    // what, request line, headers, body, status, code, a part of the body
    type Case<'a> = (&'a str, &'a str, &'a str, &'a [u8], u16, &'a str, &'a str);
    let cases: Vec<Case<'_>> = vec![
        ("a query", "POST /graphql", json, br#"{"query":"{ hello }"}"#, 200, "", r#"{"data":{"hello":"hello world"}}"#),
        ("charset", "POST /graphql", "Content-Type: application/json;charset=UTF-8", br#"{"query":"{ hello }"}"#, 200, "", "hello"),
        ("a mutation", "POST /graphql", json, br#"{"query":"mutation { double(n: 4) }"}"#, 200, "", r#"{"double":8}"#),
        ("variables", "POST /graphql", json, br#"{"query":"query A($n: String) { hello(name: $n) }","operationName":"A","variables":{"n":"you"},"extensions":{}}"#, 200, "", "hello you"),
        ("nulls", "POST /graphql", json, br#"{"query":"{ hello }","operationName":null,"variables":null,"extensions":null}"#, 200, "", "hello"),
        ("one of two", "POST /graphql", json, br#"{"query":"query A { hello } query B { me }","operationName":"B"}"#, 200, "", r#"{"me":null}"#),
        ("none of two", "POST /graphql", json, br#"{"query":"query A { hello } query B { me }"}"#, 400, "INVALID_INPUT", "operationName"),
        ("another of two", "POST /graphql", json, br#"{"query":"query A { hello } query B { me }","operationName":"C"}"#, 400, "INVALID_INPUT", "operationName"),
        ("by GET", "GET /graphql?query=%7B%20hello+%7D", "", b"", 200, "", "hello world"),
        ("by GET with variables", "GET /graphql?query=query(%24n:String)%7Bhello(name:%24n)%7D&variables=%7B%22n%22:%22%C3%A9%22%7D", "", b"", 200, "", "hello \u{e9}"),
        ("by GET, bad UTF-8", "GET /graphql?query=%ff", "", b"", 400, "INVALID_INPUT", "`query`"),
        ("by GET, bad JSON", "GET /graphql?query=%7Bhello%7D&variables=%7B", "", b"", 400, "INVALID_INPUT", "`variables`"),
        ("by GET, twice", "GET /graphql?query=%7Bhello%7D&query=%7Bme%7D", "", b"", 400, "INVALID_INPUT", "`query`"),
        ("by GET, nothing", "GET /graphql", "", b"", 400, "INVALID_INPUT", "`query`"),
        ("a mutation by GET", "GET /graphql?query=mutation%7Bdouble(n:1)%7D", "", b"", 405, "INVALID_INPUT", "POST"),
        ("a mutation by GET, chosen by name", "GET /graphql?operationName=B&query=query+A%7Bhello%7D+mutation+B%7Bdouble(n:1)%7D", "", b"", 405, "INVALID_INPUT", "POST"),
        ("a subscription", "POST /graphql", json, br#"{"query":"subscription { count(to: 1) }"}"#, 400, "INVALID_INPUT", "WebSocket"),
        ("a field twice", "POST /graphql", json, br#"{"query":"mutation { double(n: 1) double(n: 1) }"}"#, 200, "", r#"{"double":2}"#),
        ("a field twice, in a fragment", "POST /graphql", json, br#"{"query":"mutation { double(n: 1) ... { double(n: 1) } }"}"#, 200, "", r#"{"double":2}"#),
        ("a field twice, apart", "POST /graphql", json, br#"{"query":"mutation { double(n: 1) ... @include(if: true) { double(n: 1) } }"}"#, 400, "INVALID_INPUT", "once"),
        ("text/plain", "POST /graphql", text, br#"{"query":"{ hello }"}"#, 415, "INVALID_INPUT", "Content-Type"),
        ("no type", "POST /graphql", "", br#"{"query":"{ hello }"}"#, 415, "INVALID_INPUT", "Content-Type"),
        ("latin1", "POST /graphql", "Content-Type: application/json; charset=latin1", br#"{"query":"{ hello }"}"#, 415, "INVALID_INPUT", "UTF-8"),
        ("compressed", "POST /graphql", "Content-Type: application/json\nContent-Encoding: gzip", br#"{"query":"{ hello }"}"#, 415, "INVALID_INPUT", "Content-Encoding"),
        ("said to be as it is", "POST /graphql", "Content-Type: application/json\nContent-Encoding: Identity", br#"{"query":"{ hello }"}"#, 200, "", "hello world"),
        ("a document that is not known", "POST /graphql", json, br#"{"documentId":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}"#, 404, "NOT_FOUND", "PersistedQueryNotSupported"),
        ("a document by no digest", "POST /graphql", json, br#"{"documentId":"ba7816bf"}"#, 400, "INVALID_INPUT", "`documentId`"),
        ("a persisted query", "POST /graphql", json, br#"{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}}}"#, 404, "NOT_FOUND", "PersistedQueryNotSupported"),
        ("a persisted query by GET", "GET /graphql?extensions=%7B%22persistedQuery%22:%7B%22version%22:1,%22sha256Hash%22:%22ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad%22%7D%7D", "", b"", 404, "NOT_FOUND", "PersistedQueryNotSupported"),
        ("a persisted query of another version", "POST /graphql", json, br#"{"query":"{ hello }","extensions":{"persistedQuery":{"version":2}}}"#, 400, "INVALID_INPUT", "persistedQuery"),
        ("another's digest", "POST /graphql", json, br#"{"query":"{ hello }","documentId":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}"#, 400, "INVALID_INPUT", "digest"),
        ("a form", "POST /graphql", "Content-Type: application/x-www-form-urlencoded", b"query={hello}", 415, "INVALID_INPUT", "Content-Type"),
        ("not acceptable", "POST /graphql", "Content-Type: application/json\nAccept: text/html", br#"{"query":"{ hello }"}"#, 406, "INVALID_INPUT", "Accept"),
        ("no body", "POST /graphql", json, b"", 400, "INVALID_INPUT", "JSON"),
        ("half JSON", "POST /graphql", json, br#"{"query":"{ hel"#, 400, "INVALID_INPUT", "JSON"),
        ("bad UTF-8", "POST /graphql", json, b"{\"query\":\"{ \xff }\"}", 400, "INVALID_INPUT", "UTF-8"),
        ("deep JSON", "POST /graphql", json, deep_json.as_bytes(), 400, "INVALID_INPUT", "JSON"),
        ("a batch", "POST /graphql", json, br#"[{"query":"{ hello }"}]"#, 400, "INVALID_INPUT", "batches"),
        ("no object", "POST /graphql", json, b"5", 400, "INVALID_INPUT", "object"),
        ("no query", "POST /graphql", json, b"{}", 400, "INVALID_INPUT", "`query`"),
        ("query: number", "POST /graphql", json, br#"{"query":1}"#, 400, "INVALID_INPUT", "`query`"),
        ("variables: list", "POST /graphql", json, br#"{"query":"{ hello }","variables":[]}"#, 400, "INVALID_INPUT", "`variables`"),
        ("operationName: number", "POST /graphql", json, br#"{"query":"{ hello }","operationName":1}"#, 400, "INVALID_INPUT", "`operationName`"),
        ("extensions: text", "POST /graphql", json, br#"{"query":"{ hello }","extensions":"x"}"#, 400, "INVALID_INPUT", "`extensions`"),
        ("the same, older type", "POST /graphql", old, br#"{"query":1}"#, 400, "INVALID_INPUT", "`query`"),
        ("syntax", "POST /graphql", json, br#"{"query":"{ hello"}"#, 400, "INVALID_INPUT", "locations"),
        ("syntax, older type", "POST /graphql", old, br#"{"query":"{ hello"}"#, 200, "INVALID_INPUT", "locations"),
        ("validation", "POST /graphql", json, br#"{"query":"{ nope }"}"#, 400, "INVALID_INPUT", "nope"),
        ("validation, older type", "POST /graphql", old, br#"{"query":"{ nope }"}"#, 200, "INVALID_INPUT", "nope"),
        ("a wrong variable", "POST /graphql", json, br#"{"query":"mutation($n: Int!) { double(n: $n) }","variables":{"n":"x"}}"#, 400, "INVALID_INPUT", "argument"),
        ("a variable with a default", "POST /graphql", json, br#"{"query":"mutation($n: Int! = 3) { double(n: $n) }"}"#, 200, "", r#"{"double":6}"#),
        ("too long", "POST /graphql", json, long.as_bytes(), 413, "INVALID_INPUT", r#""limit":4096"#),
        ("document too long", "POST /graphql", json, long_query.as_bytes(), 400, "INVALID_INPUT", r#""limit":1024"#),
        ("too many aliases", "POST /graphql", json, aliases.as_bytes(), 400, "QUERY_TOO_COMPLEX", r#""actual":31"#),
        ("too deep", "POST /graphql", json, depth.as_bytes(), 400, "QUERY_TOO_COMPLEX", r#""limit":15"#),
        ("a foreign error", "POST /graphql", json, br#"{"query":"{ foreign }"}"#, 200, "INTERNAL", "internal error"),
        ("a coded error", "POST /graphql", json, br#"{"query":"{ denied }"}"#, 200, "FORBIDDEN", "not yours"),
        ("a panic", "POST /graphql", json, br#"{"query":"{ panics }"}"#, 500, "INTERNAL", "internal error"),
        ("DELETE", "DELETE /graphql", json, b"", 405, "INVALID_INPUT", "GET and POST"),
        ("no path of ours", "GET /nothing", "", b"", 404, "NOT_FOUND", "requestId"),
        ("no method of a path", "POST /health", "", b"", 405, "INVALID_INPUT", "method"),
        ("another's handler panics", "GET /panic", "", b"", 500, "INTERNAL", "requestId"),
        ("health", "GET /health", "", b"", 200, "", r#"{"status":"ok"}"#),
        ("ready", "GET /ready", "", b"", 200, "", r#"{"status":"ok"}"#),
    ];
    for (what, line, headers, body, status, code, part) in cases {
        let answer = server.send(&format!("{line}\n{headers}"), body).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{what}: {answer:?}"
        );
        assert!(
            answer.body.contains(part) && !answer.body.contains("geheim"),
            "{what}: {answer:?}"
        );
        assert_eq!(answer.headers["cache-control"], "no-store", "{what}");
        let id = &answer.headers["x-request-id"];
        if !code.is_empty() {
            assert_eq!(
                answer.json()["errors"][0]["extensions"]["requestId"],
                json!(id),
                "{what}: {answer:?}"
            );
        }
        if status == 405 {
            assert!(answer.headers.contains_key("allow"), "{what}: {answer:?}");
        }
        if line.contains("/graphql") {
            let older = headers.contains("Accept: application/json") || status == 406;
            assert_eq!(
                answer.headers["content-type"],
                if older { OLD } else { NEW },
                "{what}"
            );
            let ran = code.is_empty() || matches!(what, "a foreign error" | "a coded error");
            // an answer that never ran has no data
            assert_eq!(
                answer.json().get("data").is_none(),
                !ran,
                "{what}: {answer:?}"
            );
        }
    }
}

#[tokio::test]
async fn who_names_no_form_gets_the_older_one() {
    let server = Server::start(&[]).await;
    for (accept, form, status) in [
        ("Accept:", OLD, 406),
        ("Accept: */*", OLD, 200),
        ("Accept: application/json", OLD, 200),
        ("Accept: application/graphql-response+json", NEW, 400),
        ("Accept: application/graphql-response+json, */*", NEW, 400),
    ] {
        let answer = server.post(accept, r#"{"query":"{ nope }"}"#).await;
        let got = (answer.headers["content-type"].as_str(), answer.status);
        assert_eq!(got, (form, status), "{accept}: {answer:?}");
    }
    let body = r#"{"query":"{ nope }"}"#;
    let silent = format!(
        "POST /graphql HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        server.address,
        body.len()
    );
    let answer = server.raw(silent.as_bytes()).await;
    assert_eq!(
        (answer.headers["content-type"].as_str(), answer.status),
        (OLD, 200)
    );
}

#[tokio::test]
async fn long_answers_are_compressed_for_who_takes_it() {
    let server = Server::start(&[]).await;
    let query = |name: &str| {
        json!({"query": "query($n: String) { hello(name: $n) }", "variables": {"n": name}})
            .to_string()
    };
    let (short, long) = (query("x"), query(&"x".repeat(5000)));
    for (body, accept, compressed) in [
        (&long, "gzip", true),
        (&long, "br, gzip;q=0.5", true),
        (&long, "identity", false),
        (&long, "gzip;q=0", false),
        (&short, "gzip", false),
    ] {
        let head = format!(
            "POST /graphql\nContent-Type: application/json\nConnection: close\nAccept-Encoding: {accept}"
        );
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream
            .write_all(&server.request(&head, body.as_bytes()))
            .await
            .unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        let head = text.split("\r\n\r\n").next().unwrap();
        assert_eq!(
            head.contains("content-encoding: gzip"),
            compressed,
            "{accept}: {head}"
        );
        assert_eq!(
            bytes.len() < 1000,
            compressed || body.len() < 1000,
            "{accept}: {head}"
        );
        let varies = head.contains("accept-encoding");
        assert_eq!(varies, body.len() > 1000, "{accept}: {head}");
    }
}

#[tokio::test]
async fn without_introspection_there_is_an_error_and_no_null() {
    let server = Server::start(&[("WEFT_INTROSPECTION", "false")]).await;
    for query in [
        "{ __schema { queryType { name } } }",
        "{ ...F } fragment F on Query { t: __type(name: \"Query\") { name } }",
    ] {
        let answer = server
            .post("", &json!({ "query": query }).to_string())
            .await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "INVALID_INPUT"),
            "{answer:?}"
        );
        assert!(
            answer.body.contains("introspection is turned off"),
            "{answer:?}"
        );
    }
    let answer = server.post("", r#"{"query":"{ __typename hello }"}"#).await;
    assert_eq!(answer.json()["data"]["__typename"], "Query");
}

#[tokio::test]
async fn credentials() {
    let server = Server::start(&[("WEFT_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let cases = [
        ("", 200, "", r#"{"me":null}"#),
        (
            "Authorization: Bearer ann",
            200,
            "",
            "ann - 127.0.0.1 true Http",
        ),
        ("X-API-Key: ann\nWeft-Tenant: acme", 200, "", "ann acme"),
        ("Authorization: Bearer ann\nX-API-Key: ann", 200, "", "ann"),
        (
            "Authorization: Bearer ann\nX-Forwarded-For: 192.0.2.7, 198.51.100.1",
            200,
            "",
            "ann - 198.51.100.1",
        ),
        (
            "Authorization: Bearer ann\nX-API-Key: bob",
            400,
            "INVALID_INPUT",
            "two different credentials",
        ),
        (
            "Authorization: Bearer ann\nAuthorization: Bearer ann",
            400,
            "INVALID_INPUT",
            "twice",
        ),
        (
            "Authorization: Bearer bad",
            401,
            "UNAUTHENTICATED",
            "not valid",
        ),
        (
            "Authorization: Basic YTpi",
            401,
            "UNAUTHENTICATED",
            "Bearer",
        ),
        ("Authorization: Bearer slow", 429, "RATE_LIMITED", "1500"),
        (
            "Authorization: Bearer broken",
            503,
            "UNAVAILABLE",
            "try again",
        ),
        (
            "Authorization: Bearer panic",
            500,
            "INTERNAL",
            "internal error",
        ),
        (
            "Cookie: Authorization=Bearer ann",
            200,
            "",
            r#"{"me":null}"#,
        ),
    ];
    for (headers, status, code, part) in cases {
        let answer = server.post(headers, r#"{"query":"{ me }"}"#).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{headers}: {answer:?}"
        );
        assert!(answer.body.contains(part), "{headers}: {answer:?}");
        assert_eq!(
            answer.headers.contains_key("www-authenticate"),
            status == 401
        );
        assert_eq!(answer.headers.contains_key("retry-after"), status == 429);
    }
    let given = server
        .post("X-Request-Id: abc-1", r#"{"query":"{ nope }"}"#)
        .await;
    assert_eq!(
        (
            given.headers["x-request-id"].as_str(),
            given.body.contains(r#""requestId":"abc-1""#)
        ),
        ("abc-1", true)
    );
    let made = server
        .post("X-Request-Id: a<script>", r#"{"query":"{ nope }"}"#)
        .await;
    assert!(!made.headers["x-request-id"].contains('<'));
}

#[tokio::test]
async fn hosts_and_origins() {
    let server = Server::start(&[
        ("WEFT_CORS_ORIGINS", "https://app.example.com"),
        ("WEFT_ALLOWED_HOSTS", "box.lan"),
    ])
    .await;
    let own = format!("http://{}", server.address);
    let cases = [
        ("Host: evil.example", 421, "FORBIDDEN"),
        ("Host: box.lan", 200, ""),
        ("Host: localhost\nHost: localhost", 400, "INVALID_INPUT"),
        ("Origin: null", 403, "FORBIDDEN"),
        ("Origin: https://evil.example", 403, "FORBIDDEN"),
        ("Origin: http://localhost:1", 403, "FORBIDDEN"),
        ("Origin: https://app.example.com", 200, ""),
        (&format!("Origin: {own}"), 200, ""),
    ];
    for (headers, status, code) in cases {
        let answer = server.post(headers, r#"{"query":"{ hello }"}"#).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{headers}: {answer:?}"
        );
        let allowed = answer
            .headers
            .get("access-control-allow-origin")
            .map(String::as_str);
        assert_eq!(
            allowed,
            headers
                .contains("app.example")
                .then_some("https://app.example.com"),
            "{headers}"
        );
        assert!(
            !answer
                .headers
                .contains_key("access-control-allow-credentials")
        );
    }
    let probe = server.send("GET /health\nHost: 10.1.2.3:8080", b"").await;
    assert_eq!(probe.status, 200);
    let other = server.send("GET /nothing\nHost: evil.example", b"").await;
    assert_eq!(other.status, 421);
    for (origin, status, allowed) in [
        ("https://app.example.com", 204, true),
        ("https://evil.example", 403, false),
    ] {
        let head =
            format!("OPTIONS /graphql\nOrigin: {origin}\nAccess-Control-Request-Method: POST");
        let answer = server.send(&head, b"").await;
        assert_eq!(
            (
                answer.status,
                answer.headers.contains_key("access-control-allow-headers")
            ),
            (status, allowed)
        );
    }
}

#[tokio::test]
async fn what_takes_too_long() {
    let variables = [
        ("WEFT_LIMITS__QUERY_TIMEOUT_MS", "50"),
        ("WEFT_LIMITS__MUTATION_TIMEOUT_MS", "60"),
    ];
    let server = Server::with(&variables, |times| {
        times.headers = Duration::from_millis(100);
        times.body = Duration::from_millis(100);
    })
    .await;
    for (accept, status) in [("", 504), ("Accept: application/json", 200)] {
        let query = server.post(accept, r#"{"query":"{ never }"}"#).await;
        assert_eq!(
            (query.status, query.code().as_str()),
            (status, "TIMEOUT"),
            "{query:?}"
        );
        assert!(query.body.contains(r#""limit":50"#));
    }
    let mutation = server.post("", r#"{"query":"mutation { stuck }"}"#).await;
    assert!(
        mutation.code() == "TIMEOUT" && mutation.body.contains(r#""limit":60"#),
        "{mutation:?}"
    );
    let start = format!(
        "POST /graphql HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n",
        server.address
    );
    let body = server
        .raw(format!("{start}Content-Length: 10\r\n\r\n{{").as_bytes())
        .await;
    assert_eq!(
        (body.status, body.code().as_str()),
        (408, "TIMEOUT"),
        "{body:?}"
    );
    // headers that never end: closed, by whatever answer
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(start.as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(super::server::PATIENCE, stream.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    // half-closed in the middle of a body: the server goes on
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(format!("{start}Content-Length: 10\r\n\r\n{{").as_bytes())
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    tokio::time::timeout(super::server::PATIENCE, stream.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        server.post("", r#"{"query":"{ hello }"}"#).await.status,
        200
    );
}

#[tokio::test]
async fn a_body_of_any_length_gets_its_answer() {
    let server = Server::start(&[("WEFT_LIMITS__MAX_REQUEST_BYTES", "1024")]).await;
    let body = "x".repeat(3_000_000);
    let answer = server.post("", &body).await;
    assert_eq!(
        (
            answer.status,
            answer.json()["errors"][0]["extensions"]["actual"].as_u64()
        ),
        (413, Some(3_000_000))
    );
    let chunks = format!(
        "{}0\r\n\r\n",
        format!("400\r\n{}\r\n", "x".repeat(1024)).repeat(3)
    );
    let head = format!(
        "POST /graphql HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        server.address
    );
    assert_eq!(server.raw((head + &chunks).as_bytes()).await.status, 413);
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let server = Server::start(&[]).await;
    let body = r#"{"query":"{ hello }"}"#;
    let head = format!(
        "POST /graphql HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        server.address,
        body.len()
    );
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..3 {
        stream
            .write_all(format!("{head}{body}").as_bytes())
            .await
            .unwrap();
        assert_eq!(Answer::read(&mut stream).await.status, 200);
    }
}

#[tokio::test]
async fn nothing_is_served_before_the_graph_is_there_and_nothing_new_after_the_end() {
    let server = Server::closed(&[], |_| {}).await;
    let status = async |line| server.send(line, b"").await.status;
    assert_eq!(
        (status("GET /health").await, status("GET /ready").await),
        (200, 503)
    );
    let early = server.post("", r#"{"query":"{ hello }"}"#).await;
    assert_eq!((early.status, early.code().as_str()), (503, "UNAVAILABLE"));
    server.edge.open(Toy::new());
    assert_eq!(
        (status("GET /health").await, status("GET /ready").await),
        (200, 200)
    );
    // one that is under way is answered
    let mut under_way = TcpStream::connect(server.address).await.unwrap();
    let body = r#"{"query":"{ hello }"}"#;
    let head = format!(
        "POST /graphql HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        server.address,
        body.len()
    );
    under_way.write_all(head.as_bytes()).await.unwrap();
    // answered, so the one before has been taken too
    assert_eq!(status("GET /ready").await, 200);
    server.end.send(()).unwrap();
    under_way.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&mut under_way).await.status, 200);
    tokio::time::timeout(super::server::PATIENCE, server.serving)
        .await
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_listener_that_cannot_be_names_the_setting() {
    let taken = Listener::bind("listen", "127.0.0.1:0").await.unwrap();
    let cases = [
        (taken.address().to_string(), "the port is taken"),
        ("192.0.2.1:80".to_owned(), "no address of this machine"),
        ("no-such-name.invalid:80".to_owned(), "can't listen there"),
    ];
    for (address, reason) in cases {
        let error = Listener::bind("listen", &address)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&format!("setting `listen`: {address}: ")) && error.contains(reason),
            "{error}"
        );
        assert!(!error.contains('\n'));
    }
}
