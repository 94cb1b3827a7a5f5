//! The secret key changes while somebody is at the provider, and while a session of one is open.

use reqwest::Url;
use serde_json::json;
use support::server::{Options, SECRET_KEY, run};

use super::{Mill, VERIFIER, at_provider, browser::Browser, is_front_end, outcome};
use crate::rotation::NEW_KEY;

#[tokio::test(flavor = "multi_thread")]
async fn who_is_signed_in_or_on_the_way_notices_nothing() {
    let Some(corp) = super::Provider::start().await else {
        return;
    };
    let by = |key: &str| {
        at_provider(
            Options::default().with("WEFT_SECRET_KEY", key),
            "corp",
            &corp,
        )
    };
    let scene = crate::scene::Scene::with(by(SECRET_KEY)).await;
    let (options, issuer) = (by(NEW_KEY), corp.issuer.clone());
    let mut mill = Mill { scene, corp };
    mill.scene.lets_join("example.test").await;
    let (ada, _) = mill.signs_in("ada", &[]).await;
    let code = mill.comes("grace", &[]).await.expect("a code");
    // one goes out before, and comes back afterwards
    let browser = Browser::new();
    let base = mill.scene.weft.url();
    let on_the_way = |url: &Url| url.as_str().starts_with(&base);
    let there = browser
        .go(&mill.way("corp", &[("login_hint", "linus")]), on_the_way)
        .await;
    assert!(there.url.path().ends_with("/callback"), "{there:?}");

    mill.scene.weft.stop().await;
    let data = mill.scene.weft.data();
    let database = mill.scene.weft.database();
    let url = database.map(|database| database.url().to_owned());
    let mut variables = vec![
        ("WEFT_SECRET_KEY", NEW_KEY),
        ("WEFT_SECRET_KEY_PREVIOUS", SECRET_KEY),
        ("WEFT_LOG", "off"),
    ];
    variables.extend(url.iter().map(|url| ("WEFT_DATABASE_URL", url.as_str())));
    let folder = data.parent().expect("the data folder lies in another");
    let rotated = run(folder, &["rotate-key"], &variables).await;
    let told = String::from_utf8_lossy(&rotated.stdout).into_owned();
    for (what, done) in [
        ("sessions with a provider's token", 1),
        ("codes of sign-ins at providers", 1),
        ("sign-ins at providers under way", 1),
    ] {
        let line = format!("{what}: {done} of {done} sealed anew");
        assert!(told.contains(&line), "{told} {rotated:?}");
    }
    mill.scene.weft.restart_with(options).await;

    // back from the provider, by the verifier and the nonce of before
    let back = browser.go(there.url.as_str(), is_front_end).await;
    let linus = outcome(&back).expect("a code");
    for code in [linus, code] {
        let payload = mill.redeems(&code, VERIFIER).await.expect("a session");
        let client = ada.with_token(payload["accessToken"].as_str());
        leaves(&client, &issuer).await;
    }
    leaves(&ada, &issuer).await;
}

/// Signing out leads to the provider's own, with its token as a hint.
async fn leaves(client: &support::client::Client, issuer: &str) {
    let document = "mutation { signOut(input: {}) { ended providerLogoutUrl errors { code } } }";
    let done = client.done(document, json!({})).await;
    let url = done["providerLogoutUrl"].as_str().expect("an address");
    assert!(url.starts_with(issuer), "{url}");
    let url = Url::parse(url).expect("an address");
    let hint = url.query_pairs().find(|(name, _)| name == "id_token_hint");
    assert_eq!(hint.expect("a hint").1.split('.').count(), 3);
}
