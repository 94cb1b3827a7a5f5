//! Signing in at OpenID providers, against a certified one: who gets in, as whom, and what nobody gets in by.

mod browser;
mod joining;
mod linking;
mod logout;
mod provider;
mod refusals;
mod rotation;
mod seeds;

use entities::Role;
use reqwest::Url;
use serde_json::{Value, json};
use support::{
    client::{Client, OWNER_EMAIL},
    server::Options,
};

use crate::scene::Scene;
use browser::{Browser, Page};
use provider::Provider;
use seeds::{FOR_ADA, FOR_ONE};

/// The front end, which nobody needs to serve: the browser stops before it.
const FRONT_END: &str = "https://app.example.com/signed-in";
/// A program on somebody's machine.
const PROGRAM: &str = "http://127.0.0.1/cli";

/// A verifier and its challenge: the example of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

const REDEEM: &str = "mutation ($input: RedeemSignInCodeInput!) { redeemSignInCode(input: $input) {
    accessToken refreshToken expiresAt errors { code message path }
    viewer { user { id name email isActive } role credential
        identities { id issuer subject linkedAt } sessions { isCurrent createdAt expiresAt credential } } } }";

/// A server with a provider for it.
struct Mill {
    scene: Scene,
    corp: Provider,
}

/// The settings of a provider of this name.
fn at_provider(options: Options, name: &str, provider: &Provider) -> Options {
    let name = name.to_uppercase();
    options
        .with(
            &format!("WEFT_OIDC__{name}__ISSUER"),
            provider.issuer.clone(),
        )
        .with(&format!("WEFT_OIDC__{name}__CLIENT_ID"), "weft")
        .with(
            &format!("WEFT_OIDC__{name}__CLIENT_SECRET"),
            provider.secret.clone(),
        )
        .with(
            &format!("WEFT_OIDC__{name}__EMAIL_DOMAINS"),
            "example.test, mill.test",
        )
        .with("WEFT_AUTH__REDIRECT_URIS", format!("{FRONT_END},{PROGRAM}"))
}

impl Mill {
    async fn new() -> Option<Self> {
        let corp = Provider::start().await?;
        let scene = Scene::with(at_provider(Options::default(), "corp", &corp)).await;
        Some(Self { scene, corp })
    }

    /// Where a sign-in starts, with these parameters besides.
    fn way(&self, name: &str, more: &[(&str, &str)]) -> String {
        let base = self.scene.weft.url();
        let mut url = Url::parse(&format!("{base}/auth/oidc/{name}/start")).expect("an address");
        let given = |name: &str| more.iter().any(|(key, _)| *key == name);
        for (name, value) in [("return_to", FRONT_END), ("code_challenge", CHALLENGE)] {
            if !given(name) {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        url.query_pairs_mut().extend_pairs(more);
        url.into()
    }

    /// A browser goes out and comes back.
    async fn goes(&self, browser: &Browser, more: &[(&str, &str)]) -> Page {
        browser.go(&self.way("corp", more), is_front_end).await
    }

    /// This person signs in in a browser of his own: the code, or the error.
    async fn comes(&self, login: &str, more: &[(&str, &str)]) -> Result<String, String> {
        let more: Vec<_> = [("login_hint", login)]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        outcome(&self.goes(&Browser::new(), &more).await)
    }

    /// The code, or the code of the error.
    async fn redeems(&self, code: &str, verifier: &str) -> Result<Value, String> {
        let input = json!({ "input": { "code": code, "codeVerifier": verifier } });
        let answer = self.scene.weft.client().query(REDEEM, input).await;
        match answer {
            Ok(data) => {
                let payload = data["redeemSignInCode"].clone();
                assert_eq!(payload["errors"], json!([]), "{payload}");
                Ok(payload)
            }
            Err(errors) => Err(errors.code().to_owned()),
        }
    }

    /// This person signs in, all the way.
    async fn signs_in(&self, login: &str, more: &[(&str, &str)]) -> (Client, Value) {
        let code = self.comes(login, more).await.expect("a code");
        let payload = self.redeems(&code, VERIFIER).await.expect("a session");
        let client = self
            .scene
            .client
            .with_token(payload["accessToken"].as_str());
        (client, payload["viewer"].clone())
    }
}

fn is_front_end(url: &Url) -> bool {
    url.as_str().starts_with(FRONT_END) || url.path() == "/cli"
}

/// What a browser brings back.
fn outcome(page: &Page) -> Result<String, String> {
    assert!(is_front_end(&page.url), "it stands still: {page:#?}");
    match (page.parameter("code"), page.parameter("error")) {
        (Some(code), None) => Ok(code),
        (None, Some(error)) => Err(error),
        both => panic!("{both:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_lets_in_once_and_the_identity_from_then_on() {
    let Some(mill) = Mill::new().await else {
        return;
    };
    mill.scene
        .invites(FOR_ADA, Some("Ada@example.test"), Role::Editor)
        .await;
    let before = mill.scene.heads().await;
    // whose address it is not
    let another = mill.comes("grace", &[("invitation", FOR_ADA.0)]).await;
    assert_eq!(another, Err("no_account".into()));
    // whose address it may be
    mill.corp
        .tell("accounts", json!({ "ada": { "email_verified": false } }))
        .await;
    let unproven = mill.comes("ada", &[("invitation", FOR_ADA.0)]).await;
    assert_eq!(unproven, Err("no_account".into()));
    assert_eq!(mill.scene.heads().await, before, "nothing was made");
    mill.corp.tell("accounts", json!({ "ada": {} })).await;

    let browser = Browser::new();
    let given = [
        ("login_hint", "ada"),
        ("invitation", FOR_ADA.0),
        ("state", "of & mine"),
    ];
    let page = mill.goes(&browser, &given).await;
    assert_eq!(page.parameter("state").as_deref(), Some("of & mine"));
    assert_eq!(page.status, 303);
    assert_eq!(page.headers["cache-control"], "no-store");
    assert!(
        browser.cookies(&mill.scene.weft.url()).is_empty(),
        "the cookie is gone"
    );
    let code = outcome(&page).unwrap();
    let payload = mill.redeems(&code, VERIFIER).await.unwrap();
    assert_eq!(
        mill.redeems(&code, VERIFIER).await.err(),
        Some("UNAUTHENTICATED".into()),
        "once"
    );
    let viewer = &payload["viewer"];
    assert_eq!(viewer["user"]["name"], "ada of the mill");
    assert_eq!(viewer["user"]["email"], "ada@example.test");
    assert_eq!(viewer["role"], "EDITOR");
    assert_eq!(viewer["credential"], "OIDC_SESSION");
    assert_eq!(viewer["identities"][0]["issuer"], mill.corp.issuer.as_str());
    assert_eq!(viewer["identities"][0]["subject"], "ada");
    let session = &viewer["sessions"][0];
    let at =
        |name: &str| chrono::DateTime::parse_from_rfc3339(session[name].as_str().unwrap()).unwrap();
    assert_eq!(
        at("expiresAt") - at("createdAt"),
        chrono::TimeDelta::hours(24)
    );
    let (users, identities, members) = before;
    assert_eq!(
        mill.scene.heads().await,
        (users + 1, identities + 1, members + 1),
        "and the group that the invitation names"
    );

    // again, where the provider knows the browser
    let code = outcome(&mill.goes(&browser, &[]).await).unwrap();
    let again = mill.redeems(&code, VERIFIER).await.unwrap();
    assert_eq!(again["viewer"]["user"], viewer["user"]);
    let used = mill.comes("grace", &[("invitation", FOR_ADA.0)]).await;
    assert_eq!(used, Err("no_account".into()), "it was for one");
    // suspended, she has no account any more
    mill.scene.suspends("ada@example.test").await;
    assert_eq!(mill.comes("ada", &[]).await, Err("no_account".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_worth_what_its_maker_still_may() {
    let Some(mill) = Mill::new().await else {
        return;
    };
    mill.scene.invites(FOR_ONE, None, Role::Admin).await;
    mill.scene.lowers_the_owner(Role::Admin).await;
    let refused = mill.comes("ada", &[("invitation", FOR_ONE.0)]).await;
    assert_eq!(refused, Err("no_account".into()));
    assert_eq!(mill.scene.heads().await.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_domain_lets_in_and_nothing_else_does() {
    let Some(mill) = Mill::new().await else {
        return;
    };
    assert_eq!(mill.comes("ada", &[]).await, Err("no_account".into()));
    mill.scene.lets_join("example.test").await;
    mill.scene.lets_join("elsewhere.test").await;
    let people = json!({
        "unproven": { "email_verified": false },
        "unsaid": { "email_verified": null },
        "elsewhere": { "email": "x@elsewhere.test" },
        "untrusting": { "email": "x@mill.test" },
        "below": { "email": "x@sub.example.test" },
        "two": { "email": "x@evil.test@example.test.evil.test" },
        "owner": { "email": OWNER_EMAIL },
        "shouting": { "email": "Shouting@EXAMPLE.test", "name": " \u{7}\u{1b}[31mLoud " },
    });
    mill.corp.tell("accounts", people).await;
    for nobody in [
        "unproven",
        "unsaid",
        // of a domain that the tenant trusts, but not this provider for it
        "elsewhere",
        // of a domain that the provider is believed for, but no tenant's
        "untrusting",
        "below",
        "two",
        // whose address is an account's already: it takes over none
        "owner",
    ] {
        assert_eq!(
            mill.comes(nobody, &[]).await,
            Err("no_account".into()),
            "{nobody}"
        );
    }
    assert_eq!(mill.scene.heads().await.0, 1, "nothing was made");
    let (_, viewer) = mill.signs_in("ada", &[]).await;
    assert_eq!(viewer["role"], "MEMBER");
    let (_, viewer) = mill.signs_in("shouting", &[]).await;
    assert_eq!(viewer["user"]["name"], "[31mLoud");
    assert_eq!(mill.scene.heads().await.0, 3);
    // An address that changes at the provider is still the same account.
    mill.corp
        .tell("accounts", json!({ "ada": { "email": OWNER_EMAIL } }))
        .await;
    let (_, again) = mill.signs_in("ada", &[]).await;
    assert_eq!(again["user"]["email"], "ada@example.test");
    assert_eq!(mill.scene.heads().await.0, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_leaves_out_is_asked_for() {
    let Some(mill) = Mill::new().await else {
        return;
    };
    mill.scene.lets_join("example.test").await;
    let people = json!({ "unproven": { "email_verified": false } });
    mill.corp.tell("accounts", people).await;
    let silent = json!({ "email": null, "email_verified": null, "name": null });
    let fault = json!({ "claims": silent });
    mill.corp.tell("faults", fault).await;
    assert_eq!(mill.comes("unproven", &[]).await, Err("no_account".into()));
    let (_, viewer) = mill.signs_in("ada", &[]).await;
    assert_eq!(viewer["user"]["email"], "ada@example.test");
    assert_eq!(viewer["user"]["name"], "ada of the mill");
    let ill = json!({ "claims": silent, "status": { "/me": 503 } });
    mill.corp.tell("faults", ill).await;
    assert_eq!(mill.comes("grace", &[]).await, Err("unavailable".into()));
    // what another's token says is not said of this one
    let another = json!({ "claims": { "email": null, "sub": "grace" } });
    mill.corp.tell("faults", another).await;
    assert_eq!(mill.comes("ada", &[]).await, Err("invalid_response".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_comes_back_on_any_port() {
    let Some(mill) = Mill::new().await else {
        return;
    };
    mill.scene.lets_join("example.test").await;
    let back = "http://127.0.0.1:50123/cli";
    let given = [("return_to", back), ("login_hint", "ada"), ("state", "s")];
    let page = mill.goes(&Browser::new(), &given).await;
    assert!(page.url.as_str().starts_with(back), "{}", page.url);
    let code = outcome(&page).unwrap();
    mill.redeems(&code, VERIFIER).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn how_to_sign_in_is_public() {
    let Some(mill) = Mill::new().await else {
        return;
    };
    let document = "{ service { signInMethods { kind name label url } } }";
    let told = mill.scene.weft.client().ok(document, json!({})).await;
    let url = format!("{}/auth/oidc/corp/start", mill.scene.weft.url());
    assert_eq!(
        told["service"]["signInMethods"],
        json!([
            { "kind": "PASSWORD", "name": "password", "label": "Password", "url": null },
            { "kind": "OIDC", "name": "corp", "label": "corp", "url": url },
        ])
    );
}
