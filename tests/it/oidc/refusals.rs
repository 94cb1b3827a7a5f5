//! What nobody gets in by: tokens that are not good, answers that are not the provider's, codes and states that were used, ways
//! back that were not named, and providers that are away.

use std::time::{Duration, Instant};

use reqwest::Url;
use serde_json::{Value, json};
use support::{server::Options, wait::until};

use super::{
    CHALLENGE, FRONT_END, Mill, VERIFIER, at_provider,
    browser::{Browser, Page},
    is_front_end, outcome,
    provider::Provider,
};
use crate::scene::{PATIENCE, Scene};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_good_in_every_way() {
    let Some(mill) = Mill::new().await else {
        return;
    };
    mill.scene.lets_join("example.test").await;
    let mut wrong = Vec::new();
    let faults: &[(&str, Value, bool)] = &[
        ("none", json!({}), true),
        ("fast within a minute", json!({ "skew": 50 }), true),
        ("slow within a minute", json!({ "skew": -45 }), true),
        ("fast", json!({ "skew": 90 }), false),
        ("slow", json!({ "skew": -90 }), false),
        ("hours slow, run out", json!({ "skew": -7200 }), false),
        (
            "run out",
            json!({ "claims": { "exp": 1_700_000_000 } }),
            false,
        ),
        ("audience", json!({ "claims": { "aud": "other" } }), false),
        ("no audience", json!({ "claims": { "aud": null } }), false),
        (
            "extra audience",
            json!({ "claims": { "aud": ["weft", "other"] } }),
            false,
        ),
        (
            "audience in a list",
            json!({ "claims": { "aud": ["weft"] } }),
            true,
        ),
        (
            "issuer",
            json!({ "claims": { "iss": "https://id.example" } }),
            false,
        ),
        (
            "issuer but for a slash",
            json!({ "claims": { "iss": format!("{}/", mill.corp.issuer) } }),
            false,
        ),
        ("nonce", json!({ "claims": { "nonce": "another" } }), false),
        ("no nonce", json!({ "claims": { "nonce": null } }), false),
        ("azp", json!({ "claims": { "azp": "other" } }), false),
        ("azp is us", json!({ "claims": { "azp": "weft" } }), true),
        (
            "at_hash",
            json!({ "claims": { "at_hash": "dBjftJeZ4CVP-mB92K27uA" } }),
            false,
        ),
        ("no at_hash", json!({ "claims": { "at_hash": null } }), true),
        ("no subject", json!({ "claims": { "sub": null } }), false),
        ("empty subject", json!({ "claims": { "sub": "" } }), false),
        ("unsigned", json!({ "alg": "none" }), false),
        ("signed by the secret", json!({ "alg": "HS256" }), false),
        ("signed by nobody", json!({ "key": "unknown" }), false),
    ];
    for (name, fault, good) in faults {
        mill.corp.tell("faults", fault.clone()).await;
        let came = mill.comes("ada", &[]).await;
        let expected = came.is_ok() == *good
            && came
                .as_ref()
                .err()
                .is_none_or(|error| error == "invalid_response");
        if !expected {
            wrong.push(format!("{name}: {came:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(mill.scene.heads().await.0, 2);
    let output = mill.scene.weft.output();
    assert!(output.contains("a sign-in provider can't be used"));
    assert!(!output.contains(&mill.corp.secret) && !output.contains("eyJ"));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_and_old_ones_may_be_gone() {
    let Some(mill) = Mill::new().await else {
        return;
    };
    mill.scene.lets_join("example.test").await;
    mill.signs_in("ada", &[]).await;
    mill.corp.tell("rotate", json!({ "forget": true })).await;
    mill.signs_in("ada", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_may_say_no() {
    let Some(mill) = Mill::new().await else {
        return;
    };
    assert_eq!(
        mill.comes("deny", &[("state", "s")]).await,
        Err("access_denied".into())
    );
}

/// Goes out, and stops before it comes back to us.
async fn on_the_way_back(mill: &Mill, browser: &Browser, name: &str, login: &str) -> Url {
    let is_callback = |url: &Url| url.path().ends_with("/callback");
    let way = mill.way(name, &[("login_hint", login)]);
    let page = browser.go(&way, is_callback).await;
    assert!(is_callback(&page.url), "{page:#?}");
    page.url
}

fn with(url: &Url, name: &str, value: Option<&str>) -> Url {
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let mut url = url.clone();
    url.set_query(None);
    for (key, old) in pairs {
        match (key == name, value) {
            (true, Some(value)) => drop(url.query_pairs_mut().append_pair(&key, value)),
            (true, None) => {}
            (false, _) => drop(url.query_pairs_mut().append_pair(&key, &old)),
        }
    }
    url
}

fn is_text_of(page: &Page, status: u16, word: &str) -> bool {
    page.status == status
        && page.text.contains(word)
        && page.headers["cache-control"] == "no-store"
        && !page.headers.contains_key("location")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_is_of_this_browser_this_provider_and_this_time() {
    let Some(corp) = Provider::start().await else {
        return;
    };
    let Some(other) = Provider::start().await else {
        return;
    };
    let options = at_provider(Options::default(), "corp", &corp);
    let scene = Scene::with(at_provider(options, "other", &other)).await;
    let mill = Mill { scene, corp };
    mill.scene.lets_join("example.test").await;
    let base = mill.scene.weft.url();
    let stop = is_front_end;

    // the cookie is another's, or there is none
    let (mine, yours) = (Browser::new(), Browser::new());
    let back = on_the_way_back(&mill, &mine, "corp", "ada").await;
    let theirs = on_the_way_back(&mill, &yours, "corp", "grace").await;
    let (name, _) = mine.cookies(&base).remove(0);
    let (_, value) = yours.cookies(&base).remove(0);
    let stranger = Browser::new();
    stranger.hold(&base, &name, &value);
    let page = stranger.visit(&back).await;
    assert!(is_text_of(&page, 400, "`state`"), "{page:#?}");
    let page = mine.visit(&back).await;
    assert!(
        is_text_of(&page, 400, "`state`"),
        "whoever comes first ends it: {page:#?}"
    );
    let page = Browser::new().visit(&theirs).await;
    assert!(is_text_of(&page, 400, "`state`"), "{page:#?}");

    // once
    let browser = Browser::new();
    let back = on_the_way_back(&mill, &browser, "corp", "ada").await;
    let kept = browser.cookies(&base);
    assert!(outcome(&browser.go(back.as_str(), stop).await).is_ok());
    for (name, value) in kept {
        browser.hold(&base, &name, &value);
    }
    let page = browser.visit(&back).await;
    assert!(is_text_of(&page, 400, "`state`"), "{page:#?}");
    // its code, which was used, in a flow of its own
    let code = back.query_pairs().find(|(key, _)| key == "code");
    let code = code.map(|(_, code)| code.into_owned());
    let fresh = on_the_way_back(&mill, &browser, "corp", "ada").await;
    let page = browser
        .go(with(&fresh, "code", code.as_deref()).as_str(), stop)
        .await;
    assert_eq!(outcome(&page), Err("invalid_response".into()));
    // a code of another's flow, which was not used: it does not fit the verifier
    let victim = on_the_way_back(&mill, &Browser::new(), "corp", "grace").await;
    let code = victim.query_pairs().find(|(key, _)| key == "code");
    let code = code.map(|(_, code)| code.into_owned());
    let fresh = on_the_way_back(&mill, &browser, "corp", "ada").await;
    let page = browser
        .go(with(&fresh, "code", code.as_deref()).as_str(), stop)
        .await;
    assert_eq!(outcome(&page), Err("invalid_response".into()));

    // RFC 9207: who answers is missing, or another
    for iss in [None, Some(other.issuer.as_str())] {
        let back = on_the_way_back(&mill, &browser, "corp", "ada").await;
        let page = browser.go(with(&back, "iss", iss).as_str(), stop).await;
        assert_eq!(outcome(&page), Err("invalid_response".into()), "{iss:?}");
    }
    // mixed up: what was begun at the one comes back to the address of the other
    let back = on_the_way_back(&mill, &browser, "corp", "ada").await;
    let mixed = back.as_str().replace("/corp/", "/other/");
    let mixed = with(&Url::parse(&mixed).unwrap(), "iss", Some(&other.issuer));
    let page = browser.go(mixed.as_str(), stop).await;
    assert_eq!(outcome(&page), Err("invalid_response".into()));
    assert_eq!(
        mill.scene.heads().await.0,
        2,
        "ada, whose one code was good"
    );

    // `state` is missing, there twice, nobody's
    for (query, word) in [
        ("code=x", "`state` is missing"),
        ("state=a&state=b", "`state` is there twice"),
        ("state=nobodys&code=x", "`state` is not of a sign-in"),
    ] {
        let url = Url::parse(&format!("{base}/auth/oidc/corp/callback?{query}")).unwrap();
        let page = Browser::new().visit(&url).await;
        assert!(is_text_of(&page, 400, word), "{page:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_end() {
    let Some(mill) = Mill::new().await else {
        return;
    };
    let base = mill.scene.weft.url();
    let mut told = Vec::new();
    for n in 0..12 {
        let url = format!("{base}/auth/oidc/corp/callback?state=guess-{n}&code=x");
        let page = Browser::new().visit(&Url::parse(&url).unwrap()).await;
        told.push(page.status);
    }
    assert!(told[..10].iter().all(|status| *status == 400), "{told:?}");
    assert!(told[10..].iter().all(|status| *status == 429), "{told:?}");
    assert_eq!(
        mill.redeems("guess", VERIFIER).await.err(),
        Some("RATE_LIMITED".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_named_is_gone_back_to() {
    let Some(mill) = Mill::new().await else {
        return;
    };
    let long = "x".repeat(1_001);
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("return_to", "")], "`return_to` is missing"),
        (
            &[("return_to", "https://evil.example/")],
            "`return_to` is not one",
        ),
        (
            &[("return_to", "https://app.example.com/")],
            "`return_to` is not one",
        ),
        (
            &[("return_to", "https://app.example.com/signed-in?x=y")],
            "`return_to` is not one",
        ),
        (
            &[(
                "return_to",
                "https://app.example.com.evil.example/signed-in",
            )],
            "`return_to` is not one",
        ),
        (
            &[(
                "return_to",
                "https://app.example.com@evil.example/signed-in",
            )],
            "`return_to` is not one",
        ),
        (
            &[("return_to", "http://127.0.0.1:50123/other")],
            "`return_to` is not one",
        ),
        (
            &[("return_to", "http://localhost:50123/cli")],
            "`return_to` is not one",
        ),
        (&[("code_challenge", "")], "`code_challenge` is missing"),
        (
            &[("code_challenge", "short")],
            "`code_challenge` must be the SHA-256 of the verifier in base64url, 43 characters, got 5",
        ),
        (
            &[("code_challenge_method", "plain")],
            "`code_challenge_method` must be S256",
        ),
        (&[("link", "yes")], "`link` must be true or false"),
        (
            &[("link", "true"), ("invitation", "x")],
            "`invitation` and `link`",
        ),
        (
            &[("state", &long)],
            "`state` has 1001 characters, at most 1000",
        ),
        (
            &[("login_hint", "a\r\nb")],
            "`login_hint` must not contain control",
        ),
        (
            &[("code_challenge", CHALLENGE), ("code_challenge", CHALLENGE)],
            "`code_challenge` is there twice",
        ),
    ];
    for (given, word) in cases {
        let url = Url::parse(&mill.way("corp", given)).unwrap();
        let page = Browser::new().visit(&url).await;
        assert!(is_text_of(&page, 400, word), "{given:?}: {page:#?}");
        assert!(!page.headers.contains_key("set-cookie"));
    }
    let url = Url::parse(&mill.way("nobody", &[])).unwrap();
    let page = Browser::new().visit(&url).await;
    assert!(is_text_of(&page, 404, "provider"), "{page:#?}");
    let url = Url::parse(&mill.way("corp", &[])).unwrap();
    let page = Browser::new().visit(&url).await;
    let cookie = page.headers["set-cookie"].to_str().unwrap();
    assert!(
        cookie.contains("; HttpOnly; SameSite=Lax") && cookie.contains("Max-Age=600"),
        "{cookie}"
    );
    assert!(!cookie.contains("Secure") && !cookie.starts_with("__Host-"));
    let asked = Url::parse(page.headers["location"].to_str().unwrap()).unwrap();
    let asked: std::collections::BTreeMap<_, _> = asked.query_pairs().into_owned().collect();
    assert_eq!(asked["response_type"], "code");
    assert_eq!(asked["code_challenge_method"], "S256");
    assert_ne!(
        asked["code_challenge"], CHALLENGE,
        "ours is another's matter"
    );
    assert_eq!(asked["scope"], "openid email profile");
    assert!(asked["nonce"].len() >= 43 && asked["state"].len() >= 43);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_people_come_by_tls_the_cookie_does_as_well() {
    let Some(corp) = Provider::start().await else {
        return;
    };
    let options = at_provider(Options::default(), "corp", &corp)
        .with("WEFT_PUBLIC_URL", "https://weft.example.com/");
    let weft = support::server::Weft::start(options).await;
    let url = format!(
        "{}/auth/oidc/corp/start?return_to={FRONT_END}&code_challenge={CHALLENGE}",
        weft.url()
    );
    let page = Browser::new().visit(&Url::parse(&url).unwrap()).await;
    let cookie = page.headers["set-cookie"].to_str().unwrap();
    assert!(
        cookie.starts_with("__Host-")
            && cookie.ends_with("; Secure")
            && cookie.contains("; Path=/;"),
        "{cookie}"
    );
    let asked = Url::parse(page.headers["location"].to_str().unwrap()).unwrap();
    let back = asked.query_pairs().find(|(key, _)| key == "redirect_uri");
    assert_eq!(
        back.unwrap().1,
        "https://weft.example.com/auth/oidc/corp/callback"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_away_is_said_to_be() {
    let Some(corp) = Provider::start().await else {
        return;
    };
    corp.tell("down", json!({})).await;
    let scene = Scene::with(at_provider(Options::default(), "corp", &corp)).await;
    let mill = Mill { scene, corp };
    mill.scene.lets_join("example.test").await;
    let page = mill.goes(&Browser::new(), &[("state", "s")]).await;
    assert_eq!(outcome(&page), Err("unavailable".into()));
    assert_eq!(page.parameter("state").as_deref(), Some("s"));
    assert!(page.url.as_str().starts_with(FRONT_END));

    mill.corp.tell("up", json!({})).await;
    until(PATIENCE, "it is asked again", async || {
        mill.comes("ada", &[]).await.ok()
    })
    .await;

    // it goes while somebody is there
    let browser = Browser::new();
    let back = on_the_way_back(&mill, &browser, "corp", "ada").await;
    mill.corp.tell("down", json!({})).await;
    let page = browser.go(back.as_str(), is_front_end).await;
    assert_eq!(outcome(&page), Err("unavailable".into()));
    mill.corp.tell("up", json!({})).await;

    let ill = json!({ "status": { "/token": 503 } });
    mill.corp.tell("faults", ill).await;
    assert_eq!(mill.comes("ada", &[]).await, Err("unavailable".into()));
    let slow = json!({ "delay": { "/token": 60_000 } });
    mill.corp.tell("faults", slow).await;
    let begun = Instant::now();
    assert_eq!(mill.comes("ada", &[]).await, Err("unavailable".into()));
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "it is not waited for"
    );
    mill.corp.tell("faults", json!({})).await;
    mill.signs_in("ada", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_another_issuer_is_not_believed() {
    let Some(mill) = Mill::new().await else {
        return;
    };
    let fault = json!({ "discovery": { "issuer": "https://id.example" } });
    mill.corp.tell("faults", fault).await;
    let page = mill.goes(&Browser::new(), &[]).await;
    assert_eq!(outcome(&page), Err("unavailable".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_good_once_for_a_minute_with_its_verifier_and_for_one_purpose() {
    let Some(mill) = Mill::new().await else {
        return;
    };
    mill.scene.lets_join("example.test").await;
    let wrong = Some("UNAUTHENTICATED".to_owned());
    let code = mill.comes("ada", &[]).await.unwrap();
    let other = "another-verifier-that-is-as-long-as-it-must-be";
    assert_eq!(mill.redeems(&code, other).await.err(), wrong);
    assert_eq!(
        mill.redeems(&code, VERIFIER).await.err(),
        wrong,
        "a wrong verifier spends it"
    );
    let code = mill.comes("ada", &[]).await.unwrap();
    mill.scene.codes_run_out().await;
    assert_eq!(mill.redeems(&code, VERIFIER).await.err(), wrong);
    let code = mill.comes("ada", &[("link", "true")]).await.unwrap();
    assert_eq!(
        mill.redeems(&code, VERIFIER).await.err(),
        wrong,
        "a code for linking signs nobody in"
    );
    assert_eq!(mill.redeems("", "").await.err(), wrong);
    let code = mill.comes("ada", &[]).await.unwrap();
    let (one, two) = tokio::join!(mill.redeems(&code, VERIFIER), mill.redeems(&code, VERIFIER));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
}
