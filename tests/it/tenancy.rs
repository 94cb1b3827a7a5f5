//! Every root field, driven by everybody who must not get through. A root field without a case fails.

use std::collections::BTreeSet;

use entities::Role;
use serde_json::{Value, json};
use support::{
    client::Client,
    provider::{Step, Turn},
};

use crate::scene::{PATIENCE, Scene};

/// How a field answers somebody who is signed in elsewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Elsewhere {
    /// Null: for him there is no such thing.
    Null,
    /// A list without it.
    Empty,
    /// A refusal with the code NOT_FOUND.
    NotFound,
    /// His own; it is of no use against others.
    Own,
}

struct Case {
    field: &'static str,
    document: &'static str,
    elsewhere: Elsewhere,
    /// Answered without a credential.
    is_public: bool,
    /// What a MEMBER of the tenant gets: a code, or nothing special.
    member: Option<&'static str>,
}

/// `$agent`, `$model`, `$conversation`, `$message`, `$run`, `$key`, `$session`, `$group`, `$invitation`, … are ids of the owner's.
const CASES: &[Case] = &[
    Case {
        field: "service",
        document: "{ service { name needsSetup } }",
        elsewhere: Elsewhere::Own,
        is_public: true,
        member: None,
    },
    Case {
        field: "viewer",
        document: "{ viewer { user { id } } }",
        elsewhere: Elsewhere::Own,
        is_public: true,
        member: None,
    },
    Case {
        field: "node",
        document: "query ($conversation: ID!) { node(id: $conversation) { id } }",
        elsewhere: Elsewhere::Null,
        is_public: false,
        member: Some("null"),
    },
    Case {
        field: "nodes",
        document: "query ($agent: ID!, $model: ID!, $conversation: ID!, $message: ID!, $run: ID!, $key: ID!, $user: ID!, $tenant: ID!, $membership: ID!, $session: ID!, $group: ID!, $invitation: ID!) { nodes(ids: [$agent, $model, $conversation, $message, $run, $key, $user, $tenant, $membership, $session, $group, $invitation]) { id } }",
        elsewhere: Elsewhere::Null,
        is_public: false,
        member: None,
    },
    Case {
        field: "tenant",
        document: "query ($tenant: ID!) { tenant(id: $tenant) { name } }",
        elsewhere: Elsewhere::Null,
        is_public: false,
        member: None,
    },
    Case {
        field: "agent",
        document: "query ($agent: ID!) { agent(id: $agent) { name } }",
        elsewhere: Elsewhere::Null,
        is_public: false,
        member: None,
    },
    Case {
        field: "agents",
        document: "{ agents { nodes { id } totalCount } }",
        elsewhere: Elsewhere::Empty,
        is_public: false,
        member: None,
    },
    Case {
        field: "model",
        document: "query ($model: ID!) { model(id: $model) { name } }",
        elsewhere: Elsewhere::Null,
        is_public: false,
        member: None,
    },
    Case {
        field: "models",
        document: "{ models { nodes { id } totalCount } }",
        elsewhere: Elsewhere::Empty,
        is_public: false,
        member: None,
    },
    Case {
        field: "conversation",
        document: "query ($conversation: ID!) { conversation(id: $conversation) { title } }",
        elsewhere: Elsewhere::Null,
        is_public: false,
        member: Some("null"),
    },
    Case {
        field: "conversations",
        document: "{ conversations { nodes { id } totalCount } }",
        elsewhere: Elsewhere::Empty,
        is_public: false,
        member: Some("empty"),
    },
    Case {
        field: "run",
        document: "query ($run: ID!) { run(id: $run) { status } }",
        elsewhere: Elsewhere::Null,
        is_public: false,
        member: Some("null"),
    },
    Case {
        field: "runs",
        document: "{ runs { nodes { id } totalCount } }",
        elsewhere: Elsewhere::Empty,
        is_public: false,
        member: Some("empty"),
    },
    Case {
        field: "tenants",
        document: "{ tenants { nodes { id } } }",
        elsewhere: Elsewhere::Own,
        is_public: false,
        member: None,
    },
    Case {
        field: "user",
        document: "query ($user: ID!) { user(id: $user) { name } }",
        elsewhere: Elsewhere::Null,
        is_public: false,
        member: None,
    },
    Case {
        field: "group",
        document: "query ($group: ID!) { group(id: $group) { name } }",
        elsewhere: Elsewhere::Null,
        is_public: false,
        member: Some("null"),
    },
    Case {
        field: "invitation",
        document: "{ invitation(token: \"weft_in_nobodys\") { tenantName } }",
        elsewhere: Elsewhere::Null,
        is_public: true,
        member: Some("null"),
    },
    Case {
        field: "setUp",
        document: "mutation { setUp(input: { email: \"x@example.test\", password: \"a long enough one\", name: \"X\", tenantName: \"X\" }) { accessToken errors { code } } }",
        elsewhere: Elsewhere::Own,
        is_public: true,
        member: None,
    },
    Case {
        field: "signIn",
        document: "mutation { signIn(input: { email: \"nobody@example.test\", password: \"a long enough one\" }) { accessToken errors { code } } }",
        elsewhere: Elsewhere::Own,
        is_public: true,
        member: None,
    },
    Case {
        field: "refreshSession",
        document: "mutation { refreshSession(input: { refreshToken: \"weft_rt_nobodys\" }) { accessToken errors { code } } }",
        elsewhere: Elsewhere::Own,
        is_public: true,
        member: None,
    },
    Case {
        field: "signOut",
        document: "mutation { signOut(input: {}) { ended errors { code } } }",
        elsewhere: Elsewhere::Own,
        is_public: false,
        member: None,
    },
    Case {
        field: "revokeSession",
        document: "mutation ($session: ID!) { revokeSession(input: { id: $session }) { deletedIds errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("NOT_FOUND"),
    },
    Case {
        field: "redeemSignInCode",
        document: "mutation { redeemSignInCode(input: { code: \"nobodys\", codeVerifier: \"nobodys\" }) { accessToken errors { code } } }",
        elsewhere: Elsewhere::Own,
        is_public: true,
        member: None,
    },
    Case {
        field: "linkIdentity",
        document: "mutation { linkIdentity(input: { code: \"nobodys\", codeVerifier: \"nobodys\" }) { user { id } errors { code } } }",
        elsewhere: Elsewhere::Own,
        is_public: false,
        member: None,
    },
    // Somebody else's that is there is tried where there is a provider: `oidc::linking`.
    Case {
        field: "unlinkIdentity",
        document: "mutation { unlinkIdentity(input: { id: \"nobodys\" }) { user { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("NOT_FOUND"),
    },
    Case {
        field: "changePassword",
        document: "mutation { changePassword(input: { currentPassword: \"not this one\", newPassword: \"a long enough one\" }) { user { id } errors { code } } }",
        elsewhere: Elsewhere::Own,
        is_public: false,
        member: None,
    },
    Case {
        field: "createApiKey",
        document: "mutation { createApiKey(input: { name: \"k\", kind: PERSONAL }) { apiKey { id } errors { code } } }",
        elsewhere: Elsewhere::Own,
        is_public: false,
        member: None,
    },
    Case {
        field: "revokeApiKey",
        document: "mutation ($key: ID!) { revokeApiKey(input: { id: $key }) { deletedIds errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("NOT_FOUND"),
    },
    Case {
        field: "createModel",
        document: "mutation { createModel(input: { slug: \"x\", kind: CHAT, provider: BUILTIN, modelName: \"extractive\" }) { model { id } errors { code } } }",
        elsewhere: Elsewhere::Own,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "updateModel",
        document: "mutation ($model: ID!) { updateModel(input: { id: $model, name: \"mine\" }) { model { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "deleteModel",
        document: "mutation ($model: ID!) { deleteModel(input: { id: $model, force: true }) { deletedIds errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "checkModel",
        document: "mutation ($model: ID!) { checkModel(input: { id: $model }) { model { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "createAgent",
        document: "mutation { createAgent(input: { name: \"x\", instructions: \"x\" }) { agent { id } errors { code } } }",
        elsewhere: Elsewhere::Own,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "updateAgent",
        document: "mutation ($agent: ID!) { updateAgent(input: { id: $agent, name: \"mine\" }) { agent { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "deleteAgent",
        document: "mutation ($agent: ID!) { deleteAgent(input: { id: $agent, force: true }) { deletedIds errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "restoreAgentVersion",
        document: "mutation ($agent: ID!) { restoreAgentVersion(input: { id: $agent, number: 1 }) { agent { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "publishAgent",
        document: "mutation ($agent: ID!) { publishAgent(input: { id: $agent }) { agent { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "createConversation",
        document: "mutation ($agent: ID!) { createConversation(input: { agentId: $agent }) { conversation { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: None,
    },
    Case {
        field: "updateConversation",
        document: "mutation ($conversation: ID!) { updateConversation(input: { id: $conversation, title: \"mine\" }) { conversation { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("NOT_FOUND"),
    },
    Case {
        field: "deleteConversation",
        document: "mutation ($conversation: ID!) { deleteConversation(input: { id: $conversation }) { deletedIds errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("NOT_FOUND"),
    },
    Case {
        field: "sendMessage",
        document: "mutation ($conversation: ID!) { sendMessage(input: { conversationId: $conversation, text: \"psst\" }) { run { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("NOT_FOUND"),
    },
    Case {
        field: "regenerateMessage",
        document: "mutation ($message: ID!) { regenerateMessage(input: { id: $message, whenBusy: ROLLBACK }) { run { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("NOT_FOUND"),
    },
    Case {
        field: "editMessage",
        document: "mutation ($message: ID!) { editMessage(input: { id: $message, text: \"psst\", whenBusy: ROLLBACK }) { run { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("NOT_FOUND"),
    },
    Case {
        field: "rateMessage",
        document: "mutation ($message: ID!) { rateMessage(input: { id: $message, rating: DOWN }) { message { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("NOT_FOUND"),
    },
    Case {
        field: "retryRun",
        document: "mutation ($run: ID!) { retryRun(input: { id: $run }) { run { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("NOT_FOUND"),
    },
    Case {
        field: "cancelRun",
        document: "mutation ($run: ID!) { cancelRun(input: { id: $run }) { run { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("NOT_FOUND"),
    },
    Case {
        field: "createTenant",
        document: "mutation { createTenant(input: { slug: \"mine\", name: \"Mine\" }) { tenant { id } errors { code } } }",
        elsewhere: Elsewhere::Own,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "updateTenant",
        document: "mutation ($tenant: ID!) { updateTenant(input: { id: $tenant, name: \"mine\" }) { tenant { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "createUser",
        document: "mutation { createUser(input: { email: \"bo@example.test\", name: \"Bo\" }) { membership { id } errors { code } } }",
        elsewhere: Elsewhere::Own,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "updateMembership",
        document: "mutation ($membership: ID!) { updateMembership(input: { id: $membership, role: MEMBER }) { membership { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "removeMembership",
        document: "mutation ($membership: ID!) { removeMembership(input: { id: $membership }) { deletedIds errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("NOT_FOUND"),
    },
    Case {
        field: "setUserActive",
        document: "mutation ($user: ID!) { setUserActive(input: { id: $user, isActive: false }) { user { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "revokeUserSessions",
        document: "mutation ($user: ID!) { revokeUserSessions(input: { id: $user }) { deletedIds errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "resetPassword",
        document: "mutation ($user: ID!) { resetPassword(input: { id: $user }) { resetToken errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "redeemPasswordReset",
        document: "mutation { redeemPasswordReset(input: { token: \"weft_pr_nobodys\", newPassword: \"a long enough one\" }) { accessToken errors { code } } }",
        elsewhere: Elsewhere::Own,
        is_public: true,
        member: None,
    },
    Case {
        field: "setPlatformAdministrator",
        document: "mutation ($user: ID!) { setPlatformAdministrator(input: { id: $user, isPlatformAdministrator: false }) { user { id } errors { code } } }",
        elsewhere: Elsewhere::Own,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "createInvitation",
        document: "mutation { createInvitation(input: {}) { invitation { id } errors { code } } }",
        elsewhere: Elsewhere::Own,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "acceptInvitation",
        document: "mutation { acceptInvitation(input: { token: \"weft_in_nobodys\", email: \"bo@example.test\", name: \"Bo\", password: \"a long enough one\" }) { accessToken errors { code } } }",
        elsewhere: Elsewhere::Own,
        is_public: true,
        member: None,
    },
    Case {
        field: "revokeInvitation",
        document: "mutation ($invitation: ID!) { revokeInvitation(input: { id: $invitation }) { deletedIds errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "createGroup",
        document: "mutation ($group: ID!) { createGroup(input: { name: \"mine\", parentId: $group }) { group { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("NOT_FOUND"),
    },
    Case {
        field: "updateGroup",
        document: "mutation ($group: ID!) { updateGroup(input: { id: $group, name: \"mine\" }) { group { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("NOT_FOUND"),
    },
    Case {
        field: "deleteGroup",
        document: "mutation ($group: ID!) { deleteGroup(input: { id: $group, force: true }) { deletedIds errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("NOT_FOUND"),
    },
    Case {
        field: "setGroupMember",
        document: "mutation ($group: ID!, $user: ID!) { setGroupMember(input: { groupId: $group, userId: $user, role: MEMBER }) { group { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("NOT_FOUND"),
    },
    Case {
        field: "removeGroupMember",
        document: "mutation ($group: ID!, $user: ID!) { removeGroupMember(input: { groupId: $group, userId: $user }) { group { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("NOT_FOUND"),
    },
    Case {
        field: "share",
        document: "mutation ($agent: ID!, $user: ID!) { share(input: { id: $agent, with: { userId: $user }, access: MANAGE }) { resource { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
    Case {
        field: "unshare",
        document: "mutation ($agent: ID!, $tenant: ID!) { unshare(input: { id: $agent, with: { tenantId: $tenant } }) { resource { id } errors { code } } }",
        elsewhere: Elsewhere::NotFound,
        is_public: false,
        member: Some("FORBIDDEN"),
    },
];

/// And the subscriptions: everybody but the owner is told NOT_FOUND.
const SUBSCRIPTIONS: &[(&str, &str)] = &[
    (
        "conversationEvents",
        "subscription ($conversation: ID!) { conversationEvents(conversationId: $conversation) { __typename } }",
    ),
    (
        "runEvents",
        "subscription ($run: ID!) { runEvents(runId: $run) { __typename } }",
    ),
];

/// Those of `all` that the document declares.
fn variables(document: &str, all: &Value) -> Value {
    let used = all
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| document.contains(&format!("${name}:")));
    Value::Object(
        used.map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    )
}

/// The answer in one word: a code, `null`, `empty`, or `done`.
async fn answer(client: &Client, case: &Case, all: &Value) -> String {
    let data = match client
        .query(case.document, variables(case.document, all))
        .await
    {
        Ok(data) => data[case.field].clone(),
        Err(errors) => return errors.code().to_owned(),
    };
    if let Some(code) = data["errors"][0]["code"].as_str() {
        return code.to_owned();
    }
    let all_null = data
        .as_array()
        .is_some_and(|list| list.iter().all(Value::is_null));
    if data.is_null() || all_null {
        return "null".into();
    }
    // Whoever has something of his own sees that, and none of the owner's.
    let is_owners = |node: &Value| {
        let owners = all.as_object().into_iter().flatten();
        owners.into_iter().any(|(_, id)| *id == node["id"])
    };
    if let Some(nodes) = data["nodes"].as_array()
        && !nodes.iter().any(is_owners)
        && data["totalCount"] == nodes.len()
    {
        return "empty".into();
    }
    "done".into()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_at_what_is_not_his() {
    let scene = Scene::new().await;
    scene
        .provider
        .script("slow", Turn::of([Step::Text("secret".into()), Step::Stall]));
    let agent = scene.agent("slow").await;
    let sent = scene
        .client
        .send_to_agent(&agent, "the plan is secret")
        .await;
    let key = scene.client.done("mutation { createApiKey(input: { name: \"k\", kind: PERSONAL }) { apiKey { id } errors { code } } }", json!({})).await;
    let group = scene.client.done("mutation { createGroup(input: { name: \"Weavers\" }) { group { id } errors { code } } }", json!({})).await;
    let invited = scene
        .client
        .done(
            "mutation { createInvitation(input: {}) { invitation { id } token errors { code } } }",
            json!({}),
        )
        .await;
    let own = scene.client.ok("query ($agent: ID!) { agent(id: $agent) { model { id } } viewer { user { id } tenant { id } memberships { id } sessions { id } } }", json!({ "agent": agent })).await;
    let all = json!({
        "agent": agent, "model": own["agent"]["model"]["id"], "conversation": sent.conversation, "message": sent.message, "run": sent.run,
        "key": key["apiKey"]["id"], "user": own["viewer"]["user"]["id"], "tenant": own["viewer"]["tenant"]["id"], "membership": own["viewer"]["memberships"][0]["id"], "session": own["viewer"]["sessions"][0]["id"],
        "group": group["group"]["id"], "invitation": invited["invitation"]["id"],
    });

    let roots = scene.client.ok("{ __schema { queryType { fields { name } } mutationType { fields { name } } subscriptionType { fields { name } } } }", json!({})).await;
    let named = |root: &str| -> BTreeSet<String> {
        roots["__schema"][root]["fields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|field| field["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let here: BTreeSet<String> = named("queryType")
        .union(&named("mutationType"))
        .cloned()
        .collect();
    let cased: BTreeSet<String> = CASES.iter().map(|case| case.field.to_owned()).collect();
    assert_eq!(here, cased, "each root field has a case");
    assert_eq!(
        named("subscriptionType"),
        SUBSCRIPTIONS
            .iter()
            .map(|(name, _)| (*name).to_owned())
            // Everybody has one of his own tenant's; what he is told in it is tried elsewhere.
            .chain(["changes".to_owned()])
            .collect()
    );

    let stranger = scene.stranger().await;
    let member = scene.colleague(Role::Member).await;
    let nobody = scene.weft.client();
    let forged = scene.client.with_token(Some(
        "weft_pk_0000000000000000000000000000000000000000000000000",
    ));
    for case in CASES {
        let expected = match case.elsewhere {
            Elsewhere::Null => "null",
            Elsewhere::Empty => "empty",
            Elsewhere::NotFound => "NOT_FOUND",
            Elsewhere::Own => "",
        };
        if !expected.is_empty() {
            assert_eq!(
                answer(&stranger, case, &all).await,
                expected,
                "{} to another tenant's owner",
                case.field
            );
        }
        if let Some(expected) = case.member {
            assert_eq!(
                answer(&member, case, &all).await,
                expected,
                "{} to a member",
                case.field
            );
        }
        assert_eq!(
            answer(&forged, case, &all).await,
            "UNAUTHENTICATED",
            "{} with a forged key",
            case.field
        );
        if !case.is_public {
            assert_eq!(
                answer(&nobody, case, &all).await,
                "UNAUTHENTICATED",
                "{} without a credential",
                case.field
            );
        }
    }
    for (name, document) in SUBSCRIPTIONS {
        for (who, client, code) in [
            ("a stranger", &stranger, "NOT_FOUND"),
            ("a member", &member, "NOT_FOUND"),
            ("nobody", &nobody, "UNAUTHENTICATED"),
        ] {
            let mut subscription = client.subscribe(document, variables(document, &all)).await;
            assert_eq!(subscription.next(PATIENCE).await, None, "{name} to {who}");
            let ended = format!("{:?}", subscription.ended());
            assert!(ended.contains(code), "{name} to {who}: {ended}");
        }
    }
    let cursor = scene.client.ok("{ viewer { cursor } }", json!({})).await;
    let after = json!({ "after": cursor["viewer"]["cursor"] });
    let document = "subscription ($after: Cursor) { changes(after: $after) { __typename } }";
    for (client, code) in [(&stranger, "INVALID_INPUT"), (&nobody, "UNAUTHENTICATED")] {
        let mut subscription = client.subscribe(document, after.clone()).await;
        assert_eq!(subscription.next(PATIENCE).await, None);
        let ended = format!("{:?}", subscription.ended());
        assert!(ended.contains(code), "{ended}");
    }
    // and all of it is still there, as it was
    let run = scene.run(&sent.run).await;
    assert_eq!(run["status"], "RUNNING", "{run:#}");
    assert_eq!(
        scene
            .client
            .ok(
                "query ($c: ID!) { conversation(id: $c) { title } }",
                json!({ "c": sent.conversation })
            )
            .await["conversation"]["title"],
        Value::Null
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_everywhere_within_five_seconds() {
    let scene = Scene::new().await;
    let agent = scene.agent("tokens-3-0").await;
    let sent = scene.client.send_to_agent(&agent, "hi").await;
    scene.ended(&sent.run).await;
    let made = scene.client.done("mutation { createApiKey(input: { name: \"k\", kind: PERSONAL }) { apiKey { id prefix } secret errors { code } } }", json!({})).await;
    let keyed = scene.client.with_token(made["secret"].as_str());
    assert_eq!(
        keyed.ok("{ viewer { credential } }", json!({})).await["viewer"]["credential"],
        "PERSONAL_KEY"
    );
    let document =
        "subscription ($c: ID!) { conversationEvents(conversationId: $c) { __typename } }";
    let mut subscription = keyed
        .subscribe(document, json!({ "c": sent.conversation }))
        .await;
    // a key can't make keys
    let refused = keyed
        .query(
            "mutation { createApiKey(input: { name: \"k\", kind: PERSONAL }) { errors { code } } }",
            json!({}),
        )
        .await;
    let code = match &refused {
        Ok(data) => data["createApiKey"]["errors"][0]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        Err(errors) => errors.code().to_owned(),
    };
    assert_eq!(code, "FORBIDDEN");
    scene.client.done("mutation ($id: ID!) { revokeApiKey(input: { id: $id }) { deletedIds errors { code } } }", json!({ "id": made["apiKey"]["id"] })).await;
    let within = std::time::Duration::from_secs(5);
    let gone = async {
        support::wait::until(within, "the key is refused", async || {
            keyed
                .query("{ viewer { credential } }", json!({}))
                .await
                .err()
        })
        .await
    };
    assert_eq!(gone.await.code(), "UNAUTHENTICATED");
    // what happened before it, the title among it, may still be told
    while subscription.next(within).await.is_some() {}
    assert!(
        format!("{:?}", subscription.ended()).contains("4403"),
        "{:?}",
        subscription.ended()
    );
}
