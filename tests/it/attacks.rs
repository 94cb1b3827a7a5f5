//! Attacks that are known by name, each tried from outside.

use serde_json::{Value, json};
use support::{
    client::{Client, Closed, Frame, OWNER_EMAIL, OWNER_PASSWORD, PROTOCOL, Socket},
    provider::Provider,
    server::{Options, Weft},
};

use crate::scene::{PATIENCE, Scene};

const SET_UP: &str = "mutation { setUp(input: { email: \"eve@example.test\", password: \"a loom of eve's own\", name: \"Eve\", tenantName: \"Eve's\" }) { accessToken errors { code } } }";

async fn needs_set_up(client: &Client) -> bool {
    let data = client.ok("{ service { needsSetup } }", json!({})).await;
    data["service"]["needsSetup"] == true
}

/// Whoever has a server on his machine and opens the page of somebody else is not set up by that page.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_sets_nothing_up() {
    let weft = Weft::start(Options::default()).await;
    let nobody = weft.client();
    for origin in ["https://evil.example", "null", "http://localhost:1"] {
        let opened = Socket::open_with(&weft.url(), Some(PROTOCOL), &[("origin", origin)]).await;
        assert_eq!(opened.err(), Some(Closed::Status(403)), "{origin}");
        let request = nobody.graphql(SET_UP, &json!({})).header("origin", origin);
        let answer = nobody.send(request).await;
        assert_eq!(answer.status, 403, "{origin}: {}", answer.text());
    }
    // Another page has the name of this machine lead here: the address is ours and the name is not.
    let request = nobody
        .graphql(SET_UP, &json!({}))
        .header("host", "evil.example");
    assert_eq!(nobody.send(request).await.status, 421);
    // A form needs nobody's leave, and is not read.
    let request = nobody.request(reqwest::Method::POST, "/graphql");
    let body = json!({ "query": SET_UP }).to_string();
    let request = request.header("content-type", "text/plain").body(body);
    assert_eq!(nobody.send(request).await.status, 415);

    // Our own page, too, has to do it by POST.
    let own = weft.url();
    for headers in [&[("origin", own.as_str())][..], &[]] {
        let socket = Socket::open_with(&own, Some(PROTOCOL), headers).await;
        let mut socket = socket.expect("our own page is taken in");
        socket.initialise(None).await.expect("without a credential");
        let asked = json!({ "id": "1", "type": "subscribe", "payload": { "query": SET_UP } });
        socket.send(&asked).await.expect("it is sent");
        let Frame::Message(answer) = socket.receive(PATIENCE).await else {
            panic!("no answer")
        };
        let text = answer.to_string();
        assert!(text.contains("by an HTTP POST only"), "{text}");
        assert!(!text.contains("eyJ"), "{text}");
    }
    assert!(needs_set_up(&nobody).await);
    nobody.done(SET_UP, json!({})).await;
    assert!(!needs_set_up(&nobody).await);
}

/// A server behind a proxy, so that requests come from wherever they say.
async fn behind_a_proxy() -> Scene {
    let options = Options::default()
        .with("WEFT_TRUSTED_PROXIES", "127.0.0.1")
        .with("WEFT_SETUP_TOKEN", "weave");
    let weft = Weft::start(options).await;
    let set_up = "mutation ($input: SetUpInput!) { setUp(input: $input) { accessToken errors { code message } } }";
    let input = json!({ "email": OWNER_EMAIL, "password": OWNER_PASSWORD, "name": "Owner", "tenantName": "Looms", "token": "weave" });
    let nobody = weft.client();
    let done = nobody.done(set_up, json!({ "input": input })).await;
    Scene {
        provider: Provider::start().await,
        client: nobody.with_token(done["accessToken"].as_str()),
        weft,
    }
}

/// Thirty guesses in one document are no more than one, and are counted as they are in documents of their own.
#[tokio::test(flavor = "multi_thread")]
async fn thirty_guesses_in_a_document_are_one() {
    // From an address that the account never signed in from.
    let scene = behind_a_proxy().await;
    let nobody = scene.weft.client();
    let sign_in = |at: usize, password: &str| {
        format!(
            "s{at}: signIn(input: {{ email: \"{OWNER_EMAIL}\", password: \"{password}\" }}) {{ accessToken errors {{ code }} }} "
        )
    };
    let thirty = |right: Option<usize>| {
        let guess = |at| match right {
            Some(right) if right == at => sign_in(at, OWNER_PASSWORD),
            _ => sign_in(at, &format!("a guess, number {at}")),
        };
        let guesses: String = (0..30).map(guess).collect();
        format!("mutation {{ {guesses} }}")
    };
    let asked = async |document: &str, from: &str| -> Value {
        let request = nobody
            .graphql(document, &json!({}))
            .header("x-forwarded-for", from);
        nobody.send(request).await.json()
    };
    let codes = |answer: &Value| -> Vec<String> {
        let errors = answer["errors"].as_array().into_iter().flatten();
        errors
            .map(|error| {
                error["extensions"]["code"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect()
    };
    // Whichever is right, it is not looked at, but for the first.
    for right in [1, 15, 29] {
        let answer = asked(&thirty(Some(right)), "192.0.2.1").await;
        assert!(!answer.to_string().contains("eyJ"), "{right}: {answer}");
        assert!(!codes(&answer).is_empty(), "{right}: {answer}");
    }
    // Ten of them are held up, wherever they come from next.
    let mut documents = 3;
    loop {
        let answer = asked(&thirty(None), "192.0.2.1").await;
        documents += 1;
        let codes = codes(&answer);
        if codes.iter().any(|code| code == "RATE_LIMITED") {
            break;
        }
        assert!(
            codes.iter().any(|code| code == "UNAUTHENTICATED"),
            "{answer}"
        );
        assert!(documents <= 10, "more than ten guesses were looked at");
    }
    let right = format!("mutation {{ {} }}", sign_in(0, OWNER_PASSWORD));
    let answer = asked(&right, "198.51.100.7").await;
    assert_eq!(codes(&answer), ["RATE_LIMITED"], "the account is held up");
}

/// A key goes where it was meant to go, and nowhere else: whoever moves the address gets a model without one.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_does_not_follow_its_address() {
    let scene = Scene::new().await;
    let elsewhere = Provider::start().await;
    let model = "mutation ($input: CreateModelInput!) { createModel(input: $input) { model { id hasApiKey } errors { code message } } }";
    let input = json!({
        "slug": "moved", "kind": "CHAT", "provider": "OPENAI_COMPATIBLE", "modelName": "tokens-1-0", "baseUrl": scene.provider.base_url(),
        "apiKey": "sk-of-the-first", "headers": [{ "name": "x-secret", "value": "of the first" }],
    });
    let made = scene.client.done(model, json!({ "input": input })).await;
    assert_eq!(made["model"]["hasApiKey"], true);
    let id = &made["model"]["id"];
    let update = "mutation ($input: UpdateModelInput!) { updateModel(input: $input) { model { hasApiKey headerNames } errors { code message } } }";
    let input = json!({ "id": id, "baseUrl": elsewhere.base_url() });
    let moved = scene.client.done(update, json!({ "input": input })).await;
    assert_eq!(
        moved["model"],
        json!({ "hasApiKey": false, "headerNames": [] })
    );
    let agent = scene
        .client
        .create_agent("Moved", id.as_str().unwrap_or_default())
        .await;
    let sent = scene.client.send_to_agent(&agent, "hello").await;
    scene.ended(&sent.run).await;
    let calls = elsewhere.calls();
    assert!(!calls.is_empty(), "it is called where it is now");
    for call in calls.iter().chain(&elsewhere.titles()) {
        assert!(!format!("{:?}", call.headers).contains("of-the-first"));
        assert!(!call.headers.contains_key("x-secret"), "{:?}", call.headers);
    }
    assert!(scene.provider.calls().is_empty());
}

/// What opens an invitation is not guessed, neither its token nor the password of whom it is for.
#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_not_guessed() {
    let scene = behind_a_proxy().await;
    let nobody = scene.weft.client();
    let create = "mutation ($input: CreateInvitationInput!) { createInvitation(input: $input) { token errors { code message } } }";
    let tenant = "mutation { createTenant(input: { slug: \"mill\", name: \"Mill\" }) { tenant { id } errors { code message } } }";
    scene.client.done(tenant, json!({})).await;
    let mill = scene.client.in_tenant(Some("mill"));
    let owner = json!({ "input": { "email": OWNER_EMAIL, "role": "OWNER" } });
    let bound = mill.done(create, owner).await["token"].clone();
    let open = scene.client.done(create, json!({ "input": {} })).await["token"].clone();
    let accept = "mutation ($input: AcceptInvitationInput!) { acceptInvitation(input: $input) { accessToken errors { code } } }";
    let asked = async |token: &Value, email: &str, password: &str, from: &str| -> String {
        let input = json!({ "token": token, "email": email, "name": "Eve", "password": password });
        let request = nobody.graphql(accept, &json!({ "input": input }));
        let answer = nobody
            .send(request.header("x-forwarded-for", from))
            .await
            .json();
        let code = answer["errors"][0]["extensions"]["code"].as_str();
        code.unwrap_or("done").to_owned()
    };
    // Tokens: ten tries an address, and a good one tells itself apart by nothing before that.
    for n in 0..10 {
        let guess = json!(format!("weft_in_{n:0>43}"));
        let code = asked(
            &guess,
            "eve@example.test",
            "a loom of eve's own",
            "192.0.2.1",
        )
        .await;
        assert_eq!(code, "UNAUTHENTICATED", "guess {n}");
    }
    for token in [&json!("weft_in_nobodys"), &open] {
        let code = asked(
            token,
            "eve@example.test",
            "a loom of eve's own",
            "192.0.2.1",
        )
        .await;
        assert_eq!(code, "RATE_LIMITED");
    }
    let preview = "query ($token: String!) { invitation(token: $token) { status } }";
    let status = async |token: &Value| {
        let data = nobody.ok(preview, json!({ "token": token })).await;
        data["invitation"]["status"].clone()
    };
    assert_eq!(status(&open).await, "OPEN");

    // The password of a known address: ten wrong ones spend it, from wherever they come.
    for n in 0..10 {
        let from = format!("203.0.113.{n}");
        let code = asked(&bound, OWNER_EMAIL, "a guess of a password", &from).await;
        assert!(
            ["UNAUTHENTICATED", "RATE_LIMITED"].contains(&code.as_str()),
            "{n}: {code}"
        );
    }
    let code = asked(&bound, OWNER_EMAIL, OWNER_PASSWORD, "198.51.100.1").await;
    assert_ne!(code, "done");
    assert_ne!(status(&bound).await, "OPEN", "it is spent");
    let code = asked(
        &open,
        "ada@example.test",
        "a loom of ada's own",
        "198.51.100.2",
    )
    .await;
    assert_eq!(code, "done", "another is not");
}
