//! Signing out at both ends.

use std::time::Duration;

use reqwest::Url;
use serde_json::{Value, json};
use support::{client::Client, wait::until};

use super::{
    Mill, VERIFIER,
    browser::{Browser, Page},
    outcome,
};

const SOON: Duration = Duration::from_secs(5);
const SIGN_OUT: &str =
    "mutation { signOut(input: {}) { ended providerLogoutUrl errors { code } } }";

async fn is_good(client: &Client) -> bool {
    match client.query("{ viewer { role } }", json!({})).await {
        Ok(_) => true,
        Err(errors) => {
            assert_eq!(errors.code(), "UNAUTHENTICATED");
            false
        }
    }
}

fn address(mill: &Mill) -> String {
    format!(
        "{}/auth/oidc/corp/backchannel-logout",
        mill.scene.weft.url()
    )
}

async fn present(mill: &Mill, token: &str) -> (u16, Value) {
    let form = format!("logout_token={token}");
    let request = reqwest::Client::new()
        .post(address(mill))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let status = answer.status().as_u16();
    let text = answer.text().await.expect("a text");
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// Signs in in this browser; the client and the provider's name for its session.
async fn signs_in(mill: &Mill, browser: &Browser, login: &str) -> Client {
    let page: Page = mill.goes(browser, &[("login_hint", login)]).await;
    let code = outcome(&page).expect("a code");
    let payload = mill.redeems(&code, VERIFIER).await.expect("a session");
    mill.scene
        .client
        .with_token(payload["accessToken"].as_str())
}

/// Has the provider tell us when somebody signs out of it.
async fn is_told(mill: &Mill) {
    let client = json!({ "backchannel_logout_uri": address(mill), "backchannel_logout_session_required": true });
    mill.corp.tell("client", client).await;
    mill.scene.lets_join("example.test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_sign_out_leads_to_the_providers_and_the_providers_ends_ours() {
    let Some(mill) = Mill::new().await else {
        return;
    };
    is_told(&mill).await;
    let browser = Browser::new();
    let first = signs_in(&mill, &browser, "ada").await;
    // the same browser and session there, a second session here; and another browser
    let second = signs_in(&mill, &browser, "ada").await;
    let elsewhere = signs_in(&mill, &Browser::new(), "ada").await;

    let done = first.done(SIGN_OUT, json!({})).await;
    assert_eq!(done["ended"], 1);
    assert!(!is_good(&first).await && is_good(&second).await);
    let url = Url::parse(done["providerLogoutUrl"].as_str().expect("an address")).unwrap();
    assert!(url.as_str().starts_with(&mill.corp.issuer), "{url}");
    let given: std::collections::BTreeMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!(given["client_id"], "weft");
    assert_eq!(given["id_token_hint"].split('.').count(), 3);
    assert!(!given.contains_key("post_logout_redirect_uri"));

    // The provider takes the hint, asks whether to, and tells us.
    let page = browser.visit(&url).await;
    assert_eq!(page.status, 200, "{page:#?}");
    let between = |from: &str, to: &str| {
        let rest = page.text.split_once(from).expect("a form").1;
        rest.split_once(to).expect("a form").0.to_owned()
    };
    let (action, xsrf) = (
        between("action=\"", "\""),
        between("name=\"xsrf\" value=\"", "\""),
    );
    let cookies: Vec<_> = browser.cookies(&mill.corp.issuer);
    let cookies: Vec<_> = cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let sent = reqwest::Client::new()
        .post(action)
        .header("cookie", cookies.join("; "))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("xsrf={xsrf}&logout=yes"));
    let answer = sent.send().await.expect("an answer");
    assert!(answer.status().is_success() || answer.status().is_redirection());
    until(SOON, "what was of that browser ends", async || {
        (!is_good(&second).await).then_some(())
    })
    .await;
    assert!(
        is_good(&elsewhere).await,
        "another session there is another's"
    );

    let by_password = mill.scene.client.done(SIGN_OUT, json!({})).await;
    assert_eq!(by_password["providerLogoutUrl"], Value::Null);
}

/// The provider's name for the session that was begun in this browser last, as its token has it.
async fn sid(client: &Client) -> String {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let done = client.done(SIGN_OUT, json!({})).await;
    let url =
        Url::parse(done["providerLogoutUrl"].as_str().expect("an address")).expect("an address");
    let hint = url.query_pairs().find(|(key, _)| key == "id_token_hint");
    let token = hint.expect("a hint").1.into_owned();
    let claims = token.split('.').nth(1).expect("claims");
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).expect("base64url");
    let claims: Value = serde_json::from_slice(&claims).expect("JSON");
    claims["sid"].as_str().expect("a name").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_ends_sessions_by_name_or_all_of_somebody() {
    let Some(mill) = Mill::new().await else {
        return;
    };
    is_told(&mill).await;
    let (browser, other) = (Browser::new(), Browser::new());
    let spare = signs_in(&mill, &browser, "ada").await;
    let sid = sid(&spare).await;
    let here = signs_in(&mill, &browser, "ada").await;
    let there = signs_in(&mill, &other, "ada").await;
    let grace = signs_in(&mill, &Browser::new(), "grace").await;

    let by_name = mill
        .corp
        .logout_token(json!({ "sid": sid, "sub": "ada" }), json!({}))
        .await;
    assert_eq!(present(&mill, &by_name).await.0, 200);
    assert!(!is_good(&here).await && is_good(&there).await && is_good(&grace).await);

    // presented again it does nothing, whoever has signed in meanwhile
    let again = signs_in(&mill, &browser, "ada").await;
    let (status, why) = present(&mill, &by_name).await;
    assert_eq!((status, &why["error"]), (400, &json!("invalid_request")));
    assert!(is_good(&again).await);

    let all = mill
        .corp
        .logout_token(json!({ "sub": "ada" }), json!({}))
        .await;
    let waiting = mill.goes(&Browser::new(), &[("login_hint", "ada")]).await;
    let waiting = outcome(&waiting).expect("a code");
    assert_eq!(present(&mill, &all).await.0, 200);
    assert!(!is_good(&there).await && !is_good(&again).await);
    assert!(is_good(&grace).await);
    assert_eq!(
        mill.redeems(&waiting, VERIFIER).await.err(),
        Some("UNAUTHENTICATED".into()),
        "nor does a code of before begin one"
    );
    let unknown = mill
        .corp
        .logout_token(json!({ "sub": "nobody" }), json!({}))
        .await;
    assert_eq!(
        present(&mill, &unknown).await.0,
        200,
        "there is nothing left to end"
    );

    // keys rotate
    mill.corp.tell("rotate", json!({ "forget": true })).await;
    let rotated = mill
        .corp
        .logout_token(json!({ "sub": "grace" }), json!({}))
        .await;
    assert_eq!(present(&mill, &rotated).await.0, 200);
    assert!(!is_good(&grace).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_logout_that_is_not_good_ends_nothing() {
    let Some(mill) = Mill::new().await else {
        return;
    };
    is_told(&mill).await;
    let ada = signs_in(&mill, &Browser::new(), "ada").await;
    let now = chrono::Utc::now().timestamp();
    let cases = [
        ("nonce", json!({ "nonce": "x" }), json!({})),
        ("no events", json!({ "events": null }), json!({})),
        ("other events", json!({ "events": { "x": {} } }), json!({})),
        ("audience", json!({ "aud": "other" }), json!({})),
        (
            "extra audience",
            json!({ "aud": ["weft", "other"] }),
            json!({}),
        ),
        ("issuer", json!({ "iss": "https://id.example" }), json!({})),
        ("old", json!({ "iat": now - 200 }), json!({})),
        ("of tomorrow", json!({ "iat": now + 200 }), json!({})),
        ("run out", json!({ "exp": now - 100 }), json!({})),
        ("nobody", json!({ "sub": null }), json!({})),
        ("no jti", json!({ "jti": null }), json!({})),
        ("unsigned", json!({}), json!({ "alg": "none" })),
        ("signed by the secret", json!({}), json!({ "alg": "HS256" })),
        ("another kind", json!({}), json!({ "typ": "at+jwt" })),
    ];
    for (name, mut claims, header) in cases {
        if claims.get("sub").is_none() {
            claims["sub"] = json!("ada");
        }
        let token = mill.corp.logout_token(claims, header).await;
        let (status, why) = present(&mill, &token).await;
        assert_eq!(status, 400, "{name}: {why}");
        assert!(is_good(&ada).await, "{name}");
    }
    let good = mill
        .corp
        .logout_token(json!({ "sub": "ada" }), json!({}))
        .await;
    for token in ["", "x", "a.b.c", &good[..good.len() - 6]] {
        assert_eq!(present(&mill, token).await.0, 400, "{token}");
    }
    let http = reqwest::Client::new();
    let form = format!("logout_token={good}");
    let plain = http.post(address(&mill)).body(form.clone());
    assert_eq!(plain.send().await.unwrap().status(), 400);
    let page = http
        .post(address(&mill))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("origin", "https://evil.example")
        .body(form);
    assert_eq!(page.send().await.unwrap().status(), 403);
    let elsewhere = address(&mill).replace("/corp/", "/nobody/");
    let nobody = http
        .post(elsewhere)
        .header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(
        nobody.body("logout_token=x").send().await.unwrap().status(),
        404
    );
    assert!(is_good(&ada).await);
    assert_eq!(present(&mill, &good).await.0, 200, "and it was good");
    assert!(!is_good(&ada).await);
}
