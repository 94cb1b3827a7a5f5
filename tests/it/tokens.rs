//! Tokens in the form of OAuth 2, the keys they are signed by, and accounts that an operator helps.

use std::collections::BTreeMap;

use entities::{AuditOutcome, SystemScope, audit_entry, query::*};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{AlgorithmParameters, JwkSet},
};
use reqwest::Method;
use serde_json::{Value, json};
use support::{
    client::{Answer, Client, OWNER_EMAIL, OWNER_PASSWORD},
    database::Chosen,
    server::{Options, SECRET_KEY, Weft, run},
    wait::until,
};

use crate::{
    neighbour::db,
    scene::{PATIENCE, Scene},
};

/// A form, as tools write it.
fn form(fields: &[(&str, &str)]) -> String {
    let encoded = |text: &str| -> String {
        let one = |byte: u8| match byte {
            b' ' => "+".to_owned(),
            b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        };
        text.bytes().map(one).collect()
    };
    let pairs = fields
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

async fn grant(client: &Client, fields: &[(&str, &str)]) -> Answer {
    let request = client
        .with_token(None)
        .request(Method::POST, "/auth/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form(fields));
    client.send(request).await
}

async fn by_password(client: &Client, username: &str, password: &str) -> Answer {
    let fields = [
        ("grant_type", "password"),
        ("username", username),
        ("password", password),
    ];
    grant(client, &fields).await
}

async fn refreshed(client: &Client, token: &str) -> Answer {
    let fields = [("grant_type", "refresh_token"), ("refresh_token", token)];
    grant(client, &fields).await
}

fn pair(answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], 3600);
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["pragma"], "no-cache");
    let text = |name: &str| body[name].as_str().expect("a token").to_owned();
    (text("access_token"), text("refresh_token"))
}

async fn who(client: &Client, access: &str) -> Result<String, String> {
    let document = "{ viewer { user { email } tenant { slug } } }";
    let asked = client.with_token(Some(access));
    let data = asked.query(document, json!({})).await;
    let data = data.map_err(|errors| errors.code().to_owned())?;
    Ok(format!(
        "{} {}",
        data["viewer"]["user"]["email"].as_str().unwrap_or_default(),
        data["viewer"]["tenant"]["slug"]
            .as_str()
            .unwrap_or_default()
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_sign_in_and_refresh_by_a_form() {
    let scene = Scene::new().await;
    let client = &scene.client;
    let owner = format!("{OWNER_EMAIL} looms");
    let (access, first) = pair(&by_password(client, OWNER_EMAIL, OWNER_PASSWORD).await);
    assert_eq!(who(client, &access).await.unwrap(), owner);

    let in_tenant = |slug| {
        [
            ("grant_type", "password"),
            ("username", OWNER_EMAIL),
            ("password", OWNER_PASSWORD),
            ("tenant", slug),
        ]
    };
    pair(&grant(client, &in_tenant("looms")).await);
    let bad = grant(client, &in_tenant("Not A Slug")).await;
    assert_eq!(bad.status, 400);
    assert_eq!(bad.json()["error"], "invalid_request");
    let said = bad.json()["error_description"].as_str().unwrap().to_owned();
    assert!(
        said.starts_with("tenant: ") && said.contains("Not A Slug"),
        "{said}"
    );
    let long = by_password(client, &"x".repeat(400), "whatever").await;
    assert_eq!(long.json()["error"], "invalid_request");
    let said = long.json()["error_description"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        said.starts_with("username: ") && said.contains("400") && said.contains("320"),
        "{said}"
    );

    // the next pairs; then a thief comes with the first
    let (access, second) = pair(&refreshed(client, &first).await);
    assert_eq!(who(client, &access).await.unwrap(), owner);
    let (access, third) = pair(&refreshed(client, &second).await);
    assert_eq!(who(client, &access).await.unwrap(), owner);
    let stolen = refreshed(client, &first).await;
    assert_eq!(
        (stolen.status, stolen.json()["error"].clone()),
        (400, json!("invalid_grant"))
    );
    assert_eq!(who(client, &access).await.unwrap_err(), "UNAUTHENTICATED");
    for dead in [third.as_str(), "weft_rt_nonsense", &access] {
        let answer = refreshed(client, dead).await;
        assert_eq!(answer.json(), stolen.json(), "one answer for all of them");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_count_whichever_way_they_come() {
    let scene = Scene::new().await;
    let client = &scene.client;
    let wrong = by_password(client, OWNER_EMAIL, "not the password").await;
    assert_eq!(wrong.status, 400);
    assert_eq!(wrong.json()["error"], "invalid_grant");
    assert!(!wrong.headers.contains_key("www-authenticate"));
    let unknown = by_password(client, "nobody@example.test", OWNER_PASSWORD).await;
    assert_eq!((unknown.status, unknown.json()), (400, wrong.json()));
    let fields = [
        ("grant_type", "password"),
        ("username", OWNER_EMAIL),
        ("password", OWNER_PASSWORD),
        ("tenant", "elsewhere"),
    ];
    assert_eq!(grant(client, &fields).await.json(), wrong.json());
    let sign_in =
        "mutation ($input: SignInInput!) { signIn(input: $input) { accessToken errors { code } } }";
    let mutation = async |email: &str, password: &str| {
        let input = json!({ "input": { "email": email, "password": password } });
        let asked = client.with_token(None).query(sign_in, input).await;
        asked.map_err(|errors| errors.code().to_owned())
    };
    for n in 0..7 {
        let failed = mutation(&format!("{n}@example.test"), "not the password").await;
        assert_eq!(failed.unwrap_err(), "UNAUTHENTICATED");
    }
    // the eleventh of this address, by either way, the right password included
    let blocked = by_password(client, OWNER_EMAIL, OWNER_PASSWORD).await;
    assert_eq!(blocked.status, 429, "{}", blocked.text());
    assert_eq!(blocked.json()["error"], "temporarily_unavailable");
    let after: u32 = blocked.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&after), "{after}");
    let failed = mutation(OWNER_EMAIL, OWNER_PASSWORD).await;
    assert_eq!(failed.unwrap_err(), "RATE_LIMITED");
}

/// What nobody known was refused, as the audit log counts it: the address, and how often.
async fn counted(scene: &Scene, action: &str) -> Vec<(Option<String>, u64)> {
    const SYSTEM: SystemScope = SystemScope::of("tests of tokens");
    let db = db(scene).await;
    let entries = audit_entry::Entity::anywhere(SYSTEM)
        .filter(audit_entry::Column::Action.eq(action))
        .filter(audit_entry::Column::Outcome.eq(AuditOutcome::Refused))
        .all(db.reader(SYSTEM))
        .await
        .expect("the entries");
    db.close().await;
    let count = |entry: &audit_entry::Model| entry.details["count"].as_u64();
    let all = entries.into_iter();
    all.filter_map(|entry| Some((entry.address.clone(), count(&entry)?)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_stands_in_the_audit_log_whichever_way_it_came() {
    let mut scene = Scene::new().await;
    let behind_proxy = Options::default().with("WEFT_TRUSTED_PROXIES", "127.0.0.1");
    scene.weft.restart_with(behind_proxy).await;
    let from = async |address: &str, fields: &[(&str, &str)]| {
        let client = &scene.client;
        // a credential in a header is passed over, and so says nothing of who it was
        let request = client
            .request(Method::POST, "/auth/token")
            .header("x-forwarded-for", address)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form(fields));
        client.send(request).await.status
    };
    let by_password = |password| {
        [
            ("grant_type", "password"),
            ("username", OWNER_EMAIL),
            ("password", password),
        ]
    };
    let by_token = [
        ("grant_type", "refresh_token"),
        ("refresh_token", "weft_rt_nonsense"),
    ];
    let wrong = by_password("not the password");
    for (address, fields, status) in [
        ("192.0.2.1", &wrong[..], 400),
        ("192.0.2.1", &wrong, 400),
        ("192.0.2.2", &wrong, 400),
        ("192.0.2.1", &by_token, 400),
        ("192.0.2.1", &by_password(OWNER_PASSWORD), 200),
        // it never came to whether it is good
        ("192.0.2.1", &by_token[..1], 400),
    ] {
        assert_eq!(from(address, fields).await, status, "{fields:?}");
    }
    let document =
        "mutation ($input: SignInInput!) { signIn(input: $input) { accessToken errors { code } } }";
    let input =
        json!({ "input": { "email": "nobody@example.test", "password": "not the password" } });
    let nobody = scene.client.with_token(None);
    let request = nobody
        .graphql(document, &input)
        .header("x-forwarded-for", "192.0.2.1");
    assert!(
        nobody
            .send(request)
            .await
            .text()
            .contains("UNAUTHENTICATED")
    );

    // at its end a server writes down what it has counted, and else each minute
    scene.weft.stop().await;
    let sum = |all: Vec<(Option<String>, u64)>| {
        let mut sums = BTreeMap::new();
        for (address, count) in all {
            *sums.entry(address.expect("an address")).or_insert(0) += count;
        }
        sums.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(
        sum(counted(&scene, "signIn").await),
        [("192.0.2.1".to_owned(), 3), ("192.0.2.2".to_owned(), 1)]
    );
    assert_eq!(
        sum(counted(&scene, "refreshSession").await),
        [("192.0.2.1".to_owned(), 1)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_can_ask_only_so_much() {
    let options = Options::default()
        .with("WEFT_LIMITS__ADDRESS_COST_BUCKET", "60")
        .with("WEFT_LIMITS__COST_RESTORE_PER_S", "1");
    let weft = Weft::start(options).await;
    let client = weft.client();
    let asked = async || refreshed(&client, "weft_rt_nonsense").await.status;
    // fewer than the failures after which the address would be blocked
    let mut statuses = Vec::new();
    for _ in 0..9 {
        statuses.push(asked().await);
    }
    assert_eq!(statuses[..5], [400; 5], "{statuses:?}");
    assert!(statuses.contains(&429), "{statuses:?}");
    // the same bucket as that of documents
    let document = client.raw("{ service { name } }", json!({})).await;
    let left = document.json()["extensions"]["cost"]["available"].as_u64();
    assert!(left.is_some_and(|left| left < 20), "{}", document.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_turned_off_is_not_there() {
    let weft = Weft::start(Options::default().with("WEFT_AUTH__TOKEN_ENDPOINT", "false")).await;
    let mut client = weft.client();
    client.set_up().await;
    let answer = by_password(&client, OWNER_EMAIL, OWNER_PASSWORD).await;
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert_eq!(client.get("/.well-known/jwks.json").await.status, 200);
}

/// What a server that is not ours does with a token: it reads the keys, and believes what they signed.
fn believed(keys: &Value, token: &str, issuer: &str) -> Value {
    let keys: JwkSet = serde_json::from_value(keys.clone()).expect("a key set");
    let header = jsonwebtoken::decode_header(token).expect("a token");
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    let key = keys
        .find(&header.kid.expect("the name of a key"))
        .expect("it is published");
    assert!(matches!(
        key.algorithm,
        AlgorithmParameters::OctetKeyPair(_)
    ));
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&["weft"]);
    let key = DecodingKey::from_jwk(key).expect("a key that can be used");
    let decoded = jsonwebtoken::decode::<Value>(token, &key, &validation);
    decoded.expect("a token that is good").claims
}

#[tokio::test(flavor = "multi_thread")]
async fn others_can_check_tokens_by_the_published_keys() {
    let scene = Scene::new().await;
    let client = &scene.client;
    let answer = client.get("/.well-known/jwks.json").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["cache-control"], "public, max-age=300");
    assert_eq!(answer.headers["content-type"], "application/json");
    let keys = answer.json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    assert!(
        keys["keys"][0]["d"].is_null(),
        "the private half stays here: {keys}"
    );
    let (access, _) = pair(&by_password(client, OWNER_EMAIL, OWNER_PASSWORD).await);
    let payload = jsonwebtoken::dangerous::insecure_decode::<Value>(&access);
    let issuer = payload.unwrap().claims["iss"].as_str().unwrap().to_owned();
    let claims = believed(&keys, &access, &issuer);
    assert!(claims["sub"].as_str().unwrap().starts_with("user_"));

    let tag = answer.headers["etag"].to_str().unwrap();
    let again = client
        .request(Method::GET, "/.well-known/jwks.json")
        .header("if-none-match", tag);
    let again = client.send(again).await;
    assert_eq!((again.status, again.body.len()), (304, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_helps_beside_a_server_that_runs() {
    if !Chosen::from_environment().is_postgres() {
        // on SQLite he stops it first: `gateway/tests/process.rs`
        return;
    }
    let scene = Scene::new().await;
    let database = scene.weft.database().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let variables = [
        ("WEFT_DATABASE_URL", database.url()),
        ("WEFT_SECRET_KEY", SECRET_KEY),
        ("WEFT_LOG", "off"),
    ];
    let admin = async |arguments: &[&str]| {
        let arguments: Vec<_> = std::iter::once("admin")
            .chain(arguments.iter().copied())
            .collect();
        let output = run(folder.path(), &arguments, &variables).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    };
    let printed = admin(&["reset-password", OWNER_EMAIL]).await.unwrap();
    assert!(printed.contains("weft_pr_"), "{printed}");
    let resets = database.sql("select count(*) from password_resets").await;
    assert_eq!(resets.unwrap().trim(), "1");
    let last = admin(&["grant-platform", OWNER_EMAIL, "--revoke"]).await;
    assert!(last.unwrap_err().contains("the last administrator"));

    let permissions = async || {
        let asked = scene
            .client
            .ok("{ viewer { permissions } }", json!({}))
            .await;
        asked["viewer"]["permissions"].to_string()
    };
    assert!(permissions().await.contains("PLATFORM_MANAGE"));
    // another one, so that this one can go
    let another = "insert into users (id, kind, name, email, email_key, is_active, is_platform_administrator, created_at, updated_at)
        select gen_random_uuid(), kind, 'Other', 'Other@example.test', 'other@example.test', true, false, now(), now() from users limit 1";
    database.sql(another).await.unwrap();
    admin(&["grant-platform", "other@example.test"])
        .await
        .unwrap();
    admin(&["grant-platform", OWNER_EMAIL, "--revoke"])
        .await
        .unwrap();
    until(PATIENCE, "the server notices", async || {
        (!permissions().await.contains("PLATFORM_MANAGE")).then_some(())
    })
    .await;
    let back = admin(&["grant-platform", OWNER_EMAIL]).await.unwrap();
    assert!(back.contains("from now on"), "{back}");
    until(PATIENCE, "the server notices", async || {
        permissions()
            .await
            .contains("PLATFORM_MANAGE")
            .then_some(())
    })
    .await;
}
