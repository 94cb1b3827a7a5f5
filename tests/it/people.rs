//! Who belongs where, over the wire: invitations, groups, sharing, passwords that others let one choose, keys that act for others,
//! and whoever looks after the installation.

use std::time::Duration;

use entities::Role;
use serde_json::{Value, json};
use support::client::{Client, OWNER_PASSWORD};

use crate::scene::{PATIENCE, Scene};

/// What a mutation was refused for: the code in its payload, or of the whole answer.
async fn code(client: &Client, document: &str, variables: Value) -> String {
    match client.query(document, variables).await {
        Err(errors) => errors.code().to_owned(),
        Ok(data) => {
            let payload = data.as_object().and_then(|data| data.values().next());
            let payload = payload.cloned().unwrap_or_default();
            payload["errors"][0]["code"]
                .as_str()
                .map_or_else(|| format!("{payload}"), str::to_owned)
        }
    }
}

async fn user_id(client: &Client) -> String {
    let viewer = client.ok("{ viewer { user { id } } }", json!({})).await;
    viewer["viewer"]["user"]["id"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

async fn membership_id(client: &Client) -> String {
    let viewer = client
        .ok("{ viewer { memberships { id } } }", json!({}))
        .await;
    let id = &viewer["viewer"]["memberships"][0]["id"];
    id.as_str().unwrap_or_default().to_owned()
}

const SHARE: &str = "mutation ($id: ID!, $with: GranteeInput!, $access: Access!) {
    share(input: { id: $id, with: $with, access: $access }) { resource { id shares { access } } errors { code message } }
}";
const UNSHARE: &str = "mutation ($id: ID!, $with: GranteeInput!) {
    unshare(input: { id: $id, with: $with }) { resource { id } errors { code message } }
}";
const GROUP: &str = "mutation ($name: String!, $parent: ID) {
    createGroup(input: { name: $name, parentId: $parent }) { group { id path } errors { code message } }
}";
const INTO_GROUP: &str = "mutation ($group: ID!, $user: ID!, $role: Role!) {
    setGroupMember(input: { groupId: $group, userId: $user, role: $role }) { group { id } errors { code message } }
}";

/// An agent and a conversation are seen by those they are shared with, as far as that goes, and no longer than that.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shared_is_seen_and_no_longer() {
    let scene = Scene::new().await;
    let agent = scene.agent("tokens-3-0").await;
    let private = "mutation ($id: ID!) { updateAgent(input: { id: $id, visibility: PRIVATE }) { agent { id } errors { code } } }";
    scene.client.done(private, json!({ "id": agent })).await;
    let sent = scene.client.send_to_agent(&agent, "the plan").await;
    scene.ended(&sent.run).await;
    let editor = scene.colleague(Role::Editor).await;
    let user = user_id(&editor).await;
    let see = "query ($agent: ID!, $talk: ID!) {
        agent(id: $agent) { viewerAccess draft { instructions } version { instructions } }
        agents { nodes { id } totalCount }
        conversation(id: $talk) { viewerAccess messages { nodes { text } } }
        conversations { nodes { id } totalCount }
    }";
    let ids = json!({ "agent": agent, "talk": sent.conversation });
    let nothing = editor.ok(see, ids.clone()).await;
    assert_eq!(
        (&nothing["agent"], &nothing["conversation"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(nothing["conversations"]["totalCount"], 0);

    let with = json!({ "userId": user });
    let to = |id: &str, access: &str| json!({ "id": id, "with": with, "access": access });
    scene.client.done(SHARE, to(&agent, "USE")).await;
    let used = editor.ok(see, ids.clone()).await;
    assert_eq!(used["agent"]["viewerAccess"], "USE");
    assert_eq!(used["agent"]["version"]["instructions"], Value::Null);
    assert_eq!(used["agents"]["totalCount"], 1);
    scene.client.done(SHARE, to(&agent, "EDIT")).await;
    let edited = editor.ok(see, ids.clone()).await;
    assert!(
        edited["agent"]["draft"]["instructions"].is_string(),
        "{edited:#}"
    );
    let rename = "mutation ($id: ID!) { updateAgent(input: { id: $id, name: \"Ours\" }) { agent { name } errors { code } } }";
    editor.done(rename, json!({ "id": agent })).await;
    // Who edits does not decide who sees it, and deletes nothing.
    let widen = "mutation ($id: ID!) { updateAgent(input: { id: $id, visibility: TENANT }) { agent { id } errors { code } } }";
    assert_eq!(
        code(&editor, widen, json!({ "id": agent })).await,
        "FORBIDDEN"
    );
    assert_eq!(code(&editor, SHARE, to(&agent, "EDIT")).await, "FORBIDDEN");

    assert_eq!(
        code(&scene.client, SHARE, to(&sent.conversation, "USE")).await,
        "INVALID_INPUT"
    );
    scene
        .client
        .done(SHARE, to(&sent.conversation, "READ"))
        .await;
    let read = editor.ok(see, ids.clone()).await;
    assert_eq!(read["conversation"]["viewerAccess"], "READ");
    assert_eq!(
        read["conversation"]["messages"]["nodes"][0]["text"],
        "the plan"
    );
    assert_eq!(read["conversations"]["nodes"][0]["id"], sent.conversation);
    let say = "mutation ($c: ID!) { sendMessage(input: { conversationId: $c, text: \"hm\" }) { run { id } errors { code } } }";
    let talk = json!({ "c": sent.conversation });
    assert_eq!(code(&editor, say, talk.clone()).await, "FORBIDDEN");

    let document =
        "subscription ($c: ID!) { conversationEvents(conversationId: $c) { __typename } }";
    let mut follows = editor.subscribe(document, talk.clone()).await;
    scene
        .client
        .done(SHARE, to(&sent.conversation, "EDIT"))
        .await;
    let said = editor.done(say, talk).await;
    let run = said["run"]["id"].as_str().unwrap_or_default().to_owned();
    assert!(follows.next(PATIENCE).await.is_some());
    scene.ended(&run).await;

    let gone = |id: &str| json!({ "id": id, "with": with });
    for id in [&agent, &sent.conversation] {
        scene.client.done(UNSHARE, gone(id)).await;
    }
    let after = editor.ok(see, ids).await;
    assert_eq!(
        (&after["agent"], &after["conversation"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(after["conversations"]["totalCount"], 0);
    // What is said from now on is told to him no more.
    let more = scene
        .client
        .send_to_conversation(&sent.conversation, "between us")
        .await;
    scene.ended(&more.run).await;
    while follows.next(Duration::from_secs(20)).await.is_some() {}
    let ended = format!("{:?}", follows.ended());
    assert!(ended.contains("NOT_FOUND"), "{ended}");
}

/// A member of an outer group is one of the inner ones; roles there give what they say, and end with the membership.
#[tokio::test(flavor = "multi_thread")]
async fn groups_within_groups() {
    let scene = Scene::new().await;
    let outer = scene.client.done(GROUP, json!({ "name": "Weaving" })).await;
    let outer = outer["group"]["id"].clone();
    let inner = scene
        .client
        .done(GROUP, json!({ "name": "Silk", "parent": outer }))
        .await;
    assert_eq!(inner["group"]["path"], "Weaving/Silk");
    let inner = inner["group"]["id"].clone();
    assert_eq!(
        code(&scene.client, GROUP, json!({ "name": "Weaving" })).await,
        "CONFLICT"
    );
    assert_eq!(
        code(&scene.client, GROUP, json!({ "name": "a/b" })).await,
        "INVALID_INPUT"
    );

    let editor = scene.colleague(Role::Editor).await;
    let member = scene.colleague(Role::Member).await;
    let put = |user: &str, role: &str| json!({ "group": outer, "user": user, "role": role });
    let (e, m) = (user_id(&editor).await, user_id(&member).await);
    scene.client.done(INTO_GROUP, put(&m, "MEMBER")).await;

    let make = "mutation ($group: ID!) { createAgent(input: { name: \"Ours\", instructions: \"Weave.\", visibility: GROUP, groupId: $group }) { agent { id group { path } } errors { code } } }";
    assert_eq!(
        code(&editor, make, json!({ "group": inner })).await,
        "NOT_FOUND"
    );
    scene.client.done(INTO_GROUP, put(&e, "EDITOR")).await;
    let made = editor.done(make, json!({ "group": inner })).await;
    assert_eq!(made["agent"]["group"]["path"], "Weaving/Silk");
    let agent = made["agent"]["id"].clone();
    let access = "query ($id: ID!) { agent(id: $id) { viewerAccess } }";
    let seen = async |client: &Client| {
        client.ok(access, json!({ "id": agent })).await["agent"]["viewerAccess"].clone()
    };
    let outsider = scene.stranger().await;
    assert_eq!(seen(&member).await, "READ");
    assert_eq!(seen(&editor).await, "MANAGE");
    assert_eq!(seen(&outsider).await, Value::Null);

    // A MEMBER manages nothing in it, an EDITOR makes nobody ADMIN, an ADMIN of it those below him.
    assert_eq!(
        code(&member, INTO_GROUP, put(&e, "MEMBER")).await,
        "FORBIDDEN"
    );
    assert_eq!(
        code(&editor, INTO_GROUP, put(&m, "ADMIN")).await,
        "FORBIDDEN"
    );
    scene.client.done(INTO_GROUP, put(&e, "ADMIN")).await;
    editor.done(INTO_GROUP, put(&m, "EDITOR")).await;
    assert_eq!(
        code(&editor, INTO_GROUP, put(&m, "ADMIN")).await,
        "FORBIDDEN"
    );

    let out = "mutation ($group: ID!, $user: ID!) { removeGroupMember(input: { groupId: $group, userId: $user }) { group { id } errors { code } } }";
    scene
        .client
        .done(out, json!({ "group": outer, "user": m }))
        .await;
    assert_eq!(seen(&member).await, Value::Null);
    let delete = "mutation ($id: ID!, $force: Boolean!) { deleteGroup(input: { id: $id, force: $force }) { deletedIds errors { code ... on InUse { by { id } } } } }";
    let refused = scene
        .client
        .refused(delete, json!({ "id": outer, "force": false }))
        .await;
    assert_eq!(refused[0]["code"], "IN_USE");
    scene
        .client
        .done(delete, json!({ "id": outer, "force": true }))
        .await;
    let left = "query ($id: ID!) { agent(id: $id) { viewerAccess group { id } } }";
    let left = editor.ok(left, json!({ "id": agent })).await;
    assert_eq!(
        left["agent"],
        json!({ "viewerAccess": "MANAGE", "group": null })
    );
}

/// A managed account chooses its password by a token, once; another tenant does not get at it, and neither does its own for a free one.
#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_chosen_by_their_persons() {
    let scene = Scene::new().await;
    let make = "mutation { createUser(input: { email: \"bo@example.test\", name: \"Bo\" }) { membership { id user { id isManaged } } resetToken errors { code message } } }";
    let made = scene.client.done(make, json!({})).await;
    assert_eq!(made["membership"]["user"]["isManaged"], true);
    let bo = &made["membership"]["user"]["id"];
    let choose = "mutation ($token: String!) { redeemPasswordReset(input: { token: $token, newPassword: \"a loom in the attic\" }) { accessToken viewer { user { id } } errors { code } } }";
    let token = json!({ "token": made["resetToken"] });
    let chosen = scene.weft.client().done(choose, token.clone()).await;
    assert_eq!(chosen["viewer"]["user"]["id"], *bo);
    assert_eq!(
        code(&scene.weft.client(), choose, token).await,
        "UNAUTHENTICATED"
    );

    let reset =
        "mutation ($id: ID!) { resetPassword(input: { id: $id }) { resetToken errors { code } } }";
    let stranger = scene.stranger().await;
    assert_eq!(
        code(&stranger, reset, json!({ "id": bo })).await,
        "NOT_FOUND"
    );
    let admin = scene.colleague(Role::Admin).await;
    let free = user_id(&scene.colleague(Role::Member).await).await;
    assert_eq!(
        code(&admin, reset, json!({ "id": free })).await,
        "FORBIDDEN"
    );
    let again = admin.done(reset, json!({ "id": bo })).await;
    assert!(again["resetToken"].is_string());
    // One who is above is out of reach.
    let owner = user_id(&scene.client).await;
    assert_eq!(
        code(&admin, reset, json!({ "id": owner })).await,
        "FORBIDDEN"
    );

    let off = "mutation ($id: ID!, $on: Boolean!) { setUserActive(input: { id: $id, isActive: $on }) { user { isActive } errors { code } } }";
    assert_eq!(
        code(&admin, off, json!({ "id": owner, "on": false })).await,
        "FORBIDDEN"
    );
    admin.done(off, json!({ "id": bo, "on": false })).await;
    let session = scene
        .weft
        .client()
        .with_token(chosen["accessToken"].as_str());
    let refused = session.query("{ viewer { user { id } } }", json!({})).await;
    assert_eq!(
        refused
            .err()
            .map(|errors| errors.code().to_owned())
            .as_deref(),
        Some("UNAUTHENTICATED")
    );
}

/// Two owners who remove each other at once: one stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_keeps_an_owner() {
    let scene = Scene::new().await;
    let other = scene.colleague(Role::Owner).await;
    let (mine, his) = (
        membership_id(&scene.client).await,
        membership_id(&other).await,
    );
    let remove = "mutation ($id: ID!) { removeMembership(input: { id: $id }) { deletedIds errors { code } } }";
    let (one, two) = tokio::join!(
        code(&scene.client, remove, json!({ "id": his })),
        code(&other, remove, json!({ "id": mine })),
    );
    let done = [&one, &two]
        .iter()
        .filter(|answer| answer.contains("membership_"))
        .count();
    assert_eq!(done, 1, "{one} {two}");
    let last = if one.contains("membership_") {
        (&scene.client, mine)
    } else {
        (&other, his)
    };
    assert_eq!(
        code(last.0, remove, json!({ "id": last.1 })).await,
        "CONFLICT"
    );
    let lower = "mutation ($id: ID!) { updateMembership(input: { id: $id, role: ADMIN }) { membership { role } errors { code } } }";
    assert_eq!(
        code(last.0, lower, json!({ "id": last.1 })).await,
        "CONFLICT"
    );
}

/// An invitation admits whom it says, as often as it says, while its maker may still give what it gives.
#[tokio::test(flavor = "multi_thread")]
async fn invitations() {
    let scene = Scene::new().await;
    let admin = scene.colleague(Role::Admin).await;
    let invite = "mutation ($input: CreateInvitationInput!) { createInvitation(input: $input) { invitation { id } token errors { code } } }";
    let input = |input: Value| json!({ "input": input });
    assert_eq!(
        code(&admin, invite, input(json!({ "role": "ADMIN" }))).await,
        "FORBIDDEN"
    );
    assert_eq!(
        code(
            &scene.client,
            invite,
            input(json!({ "role": "EDITOR", "uses": 2 }))
        )
        .await,
        "INVALID_INPUT"
    );
    let accept = "mutation ($input: AcceptInvitationInput!) { acceptInvitation(input: $input) { accessToken viewer { role tenant { slug } } errors { code } } }";
    let as_ada = |token: &Value, password: &str| {
        input(
            json!({ "token": token, "email": "ada@example.test", "name": "Ada", "password": password }),
        )
    };
    let nobody = scene.weft.client();
    let bound = admin
        .done(
            invite,
            input(json!({ "email": "Ada@example.test", "role": "EDITOR" })),
        )
        .await;
    let preview = "query ($t: String!) { invitation(token: $t) { tenantName role email status } }";
    let shown = nobody.ok(preview, json!({ "t": bound["token"] })).await;
    assert_eq!(shown["invitation"]["status"], "OPEN");
    let other = input(
        json!({ "token": bound["token"], "email": "eve@example.test", "name": "Eve", "password": OWNER_PASSWORD }),
    );
    assert_eq!(code(&nobody, accept, other).await, "UNAUTHENTICATED");
    let joined = nobody
        .done(accept, as_ada(&bound["token"], OWNER_PASSWORD))
        .await;
    assert_eq!(joined["viewer"]["role"], "EDITOR");
    assert_eq!(
        code(&nobody, accept, as_ada(&bound["token"], OWNER_PASSWORD)).await,
        "UNAUTHENTICATED"
    );
    let shown = nobody.ok(preview, json!({ "t": bound["token"] })).await;
    assert_eq!(shown["invitation"]["status"], "ACCEPTED");

    // A known address needs its password, and the same person joins another tenant, being signed in, by the token alone.
    let make = "mutation { createTenant(input: { slug: \"mill\", name: \"Mill\" }) { tenant { id } errors { code } } }";
    scene.client.done(make, json!({})).await;
    let mill = scene.client.in_tenant(Some("mill"));
    let owner = mill.done(invite, input(json!({ "role": "OWNER" }))).await;
    assert_eq!(
        code(&mill, invite, input(json!({ "role": "MEMBER" }))).await,
        "FORBIDDEN"
    );
    let wrong = as_ada(&owner["token"], "not her password");
    assert_eq!(code(&nobody, accept, wrong).await, "UNAUTHENTICATED");
    let ada = nobody.with_token(joined["accessToken"].as_str());
    let joined = ada
        .done(accept, input(json!({ "token": owner["token"] })))
        .await;
    assert_eq!(joined["viewer"]["tenant"]["slug"], "mill");
    let there = ada
        .in_tenant(Some("mill"))
        .ok("{ viewer { role } }", json!({}))
        .await;
    assert_eq!(there["viewer"]["role"], "OWNER");

    // Whoever may not give it any more has given nothing.
    let given = admin
        .done(invite, input(json!({ "role": "MEMBER", "uses": 5 })))
        .await;
    let lower = "mutation ($id: ID!) { updateMembership(input: { id: $id, role: MEMBER }) { membership { role } errors { code } } }";
    scene
        .client
        .done(lower, json!({ "id": membership_id(&admin).await }))
        .await;
    let late = input(
        json!({ "token": given["token"], "email": "late@example.test", "name": "Late", "password": OWNER_PASSWORD }),
    );
    assert_eq!(code(&nobody, accept, late).await, "UNAUTHENTICATED");
}

/// A service key acts for those it may, with no more than both may, and both names stand in the audit log.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_acts_for_others() {
    let scene = Scene::new().await;
    let make = "mutation ($input: CreateApiKeyInput!) { createApiKey(input: $input) { apiKey { id owner { kind } } secret errors { code } } }";
    let key = |input: Value| json!({ "input": input });
    let plain = json!({ "name": "bot", "kind": "SERVICE" });
    assert_eq!(code(&scene.client, make, key(plain)).await, "INVALID_INPUT");
    let full = json!({ "name": "bot", "kind": "SERVICE", "permissions": ["AGENTS_USE", "CONVERSATIONS_USE", "AGENTS_EDIT"], "mayImpersonate": true, "mayCreateUsers": true });
    let made = scene.client.done(make, key(full)).await;
    assert_eq!(made["apiKey"]["owner"]["kind"], "SERVICE");
    let bot = scene.weft.client().with_token(made["secret"].as_str());
    let who = "{ viewer { credential permissions user { id name kind } role } }";
    let itself = bot.ok(who, json!({})).await;
    assert_eq!(itself["viewer"]["user"]["kind"], "SERVICE");

    // The account is made with the first request, and found by the second.
    let for_ida = bot.on_behalf_of(Some("Ida@example.test"));
    let first = for_ida.ok(who, json!({})).await;
    assert_eq!(first["viewer"]["role"], "MEMBER");
    assert_eq!(
        first["viewer"]["permissions"],
        json!(["AGENTS_USE", "CONVERSATIONS_USE"]),
        "no more than both may"
    );
    let again = bot
        .on_behalf_of(Some("ida@example.test"))
        .ok(who, json!({}))
        .await;
    assert_eq!(again["viewer"]["user"]["id"], first["viewer"]["user"]["id"]);
    let talk = "mutation { createConversation(input: { title: \"Hers\" }) { conversation { id owner { name } } errors { code } } }";
    let made = for_ida.done(talk, json!({})).await;
    let own = bot.ok("{ conversations { totalCount } }", json!({})).await;
    assert_eq!(own["conversations"]["totalCount"], 0, "it is hers");
    let log = "{ tenant { auditLog(filter: { action: \"createConversation\" }) { nodes { actor { kind } onBehalfOf { id } targetId outcome apiKey { id } } } } }";
    let log = scene.client.ok(log, json!({})).await;
    let entry = &log["tenant"]["auditLog"]["nodes"][0];
    assert_eq!(entry["actor"]["kind"], "SERVICE");
    assert_eq!(entry["onBehalfOf"]["id"], first["viewer"]["user"]["id"]);
    assert_eq!(entry["targetId"], made["conversation"]["id"]);

    let admin = user_id(&scene.colleague(Role::Admin).await).await;
    let ids = [
        user_id(&scene.client).await,
        admin,
        "user_00000000000000000000000000".into(),
        "nobody".into(),
    ];
    for whom in &ids {
        let refused = bot.on_behalf_of(Some(whom)).query(who, json!({})).await;
        let refused = refused.err().map(|errors| errors.code().to_owned());
        assert_eq!(refused.as_deref(), Some("FORBIDDEN"), "{whom}");
    }
    // With any other credential it is refused, and never ignored.
    let personal = json!({ "name": "k", "kind": "PERSONAL" });
    let personal = scene.client.done(make, key(personal)).await;
    let personal = scene.weft.client().with_token(personal["secret"].as_str());
    for client in [&scene.client, &personal, &scene.weft.client()] {
        let refused = client
            .on_behalf_of(Some("ida@example.test"))
            .query(who, json!({}))
            .await;
        assert_eq!(
            refused
                .err()
                .map(|errors| errors.code().to_owned())
                .as_deref(),
            Some("FORBIDDEN")
        );
    }
}

/// Whoever looks after the installation sees of a tenant that is not his what he needs, and nothing that is in it.
#[tokio::test(flavor = "multi_thread")]
async fn who_looks_after_the_installation_visits() {
    let scene = Scene::new().await;
    let stranger = scene.stranger().await;
    let agent = "mutation { createAgent(input: { name: \"Theirs\", instructions: \"Weave.\" }) { agent { id } errors { code } } }";
    let agent = stranger.done(agent, json!({})).await["agent"]["id"].clone();
    let visit = scene.client.in_tenant(Some("neighbours"));
    let seen = visit.ok("query ($id: ID!) { viewer { role permissions } agent(id: $id) { id } agents { totalCount } conversations { totalCount } node(id: $id) { id } tenant { name isActive members { totalCount } auditLog { totalCount } usage { runs } } }", json!({ "id": agent })).await;
    assert_eq!(
        seen["viewer"],
        json!({ "role": null, "permissions": ["PLATFORM_MANAGE"] })
    );
    for hidden in ["agent", "node"] {
        assert_eq!(seen[hidden], Value::Null);
    }
    assert_eq!(
        (
            &seen["agents"]["totalCount"],
            &seen["conversations"]["totalCount"]
        ),
        (&json!(0), &json!(0))
    );
    assert_eq!(seen["tenant"]["members"]["totalCount"], 1);
    assert_eq!(seen["tenant"]["usage"], Value::Null);
    assert!(seen["tenant"]["auditLog"]["totalCount"].as_i64() > Some(0));
    for (document, expected) in [
        (
            "mutation { createAgent(input: { name: \"x\", instructions: \"x\" }) { agent { id } errors { code } } }",
            "FORBIDDEN",
        ),
        (
            "mutation { createGroup(input: { name: \"x\" }) { group { id } errors { code } } }",
            "FORBIDDEN",
        ),
        (
            "mutation { createConversation(input: {}) { conversation { id } errors { code } } }",
            "FORBIDDEN",
        ),
    ] {
        assert_eq!(
            code(&visit, document, json!({})).await,
            expected,
            "{document}"
        );
    }
    let tenant = stranger.ok("{ tenant { id } }", json!({})).await["tenant"]["id"].clone();
    let suspend = "mutation ($id: ID!, $on: Boolean!) { updateTenant(input: { id: $id, isActive: $on }) { tenant { isActive } errors { code } } }";
    assert_eq!(
        code(&stranger, suspend, json!({ "id": tenant, "on": false })).await,
        "FORBIDDEN"
    );
    visit
        .done(suspend, json!({ "id": tenant, "on": false }))
        .await;
    let gone = support::wait::until(
        Duration::from_secs(5),
        "the tenant is suspended",
        async || stranger.query("{ viewer { role } }", json!({})).await.err(),
    );
    assert_eq!(gone.await.code(), "UNAUTHENTICATED");
    visit
        .done(suspend, json!({ "id": tenant, "on": true }))
        .await;
    let log = "{ tenant { auditLog(filter: { action: \"updateTenant\" }) { nodes { outcome } } } }";
    let log = stranger.ok(log, json!({})).await;
    assert_eq!(
        log["tenant"]["auditLog"]["nodes"].as_array().map(Vec::len),
        Some(3),
        "{log:#}"
    );
}
