//! Doing a mutation once: the same key with the same input, again and at the same time. A mutation that takes a key and has no case
//! fails.

use std::collections::BTreeSet;

use entities::Role;
use serde_json::{Value, json};
use support::{
    client::Client,
    provider::{Script, Step, Turn},
};

use crate::scene::Scene;

/// What is asked of a payload, and of what another input differs.
const CASES: &[(&str, &str, &str)] = &[
    ("createApiKey", "apiKey { id }", "name"),
    ("revokeApiKey", "deletedIds", "id"),
    ("revokeSession", "deletedIds", "id"),
    ("changePassword", "user { id }", "newPassword"),
    ("createTenant", "tenant { id }", "name"),
    ("updateTenant", "tenant { id }", "name"),
    ("createUser", "membership { id }", "name"),
    ("updateMembership", "membership { id role }", "id"),
    ("removeMembership", "deletedIds", "id"),
    ("setUserActive", "user { id isActive }", "id"),
    ("revokeUserSessions", "deletedIds", "id"),
    ("resetPassword", "user { id }", "id"),
    ("setPlatformAdministrator", "user { id }", "id"),
    ("unlinkIdentity", "user { id }", "id"),
    ("createInvitation", "invitation { id }", "role"),
    ("revokeInvitation", "deletedIds", "id"),
    ("createGroup", "group { id }", "name"),
    ("updateGroup", "group { id }", "name"),
    ("deleteGroup", "deletedIds", "id"),
    ("setGroupMember", "group { id }", "role"),
    ("removeGroupMember", "group { id }", "userId"),
    ("share", "resource { id }", "access"),
    ("unshare", "resource { id }", "id"),
    ("createModel", "model { id }", "name"),
    ("updateModel", "model { id name }", "name"),
    ("deleteModel", "deletedIds", "id"),
    ("checkModel", "model { id }", "id"),
    ("createAgent", "agent { id }", "name"),
    ("updateAgent", "agent { id name }", "name"),
    ("deleteAgent", "deletedIds", "id"),
    (
        "publishAgent",
        "agent { id } version { id number }",
        "notes",
    ),
    ("restoreAgentVersion", "agent { id }", "number"),
    ("createConversation", "conversation { id }", "title"),
    ("updateConversation", "conversation { id }", "title"),
    ("deleteConversation", "deletedIds", "id"),
    ("sendMessage", SENT, "text"),
    ("regenerateMessage", SENT, "modelId"),
    ("editMessage", SENT, "text"),
    ("rateMessage", "message { id rating }", "comment"),
    ("cancelRun", "run { id }", "id"),
    ("retryRun", SENT, "modelId"),
];

const SENT: &str = "conversation { id } message { id } run { id } cursor";

/// The mutations whose input has a key.
async fn keyed(client: &Client) -> BTreeSet<String> {
    let document = "{ __schema { mutationType { fields { name args { type { ofType { inputFields { name } } } } } } } }";
    let schema = client.ok(document, json!({})).await;
    let fields = schema["__schema"]["mutationType"]["fields"].as_array();
    fields
        .into_iter()
        .flatten()
        .filter(|field| field["args"].to_string().contains("idempotencyKey"))
        .filter_map(|field| Some(field["name"].as_str()?.to_owned()))
        .collect()
}

fn document(field: &str, asked: &str) -> String {
    let mut input = field.to_owned();
    input[..1].make_ascii_uppercase();
    format!(
        "mutation ($input: {input}Input!) {{ {field}(input: $input) {{ {asked} errors {{ code message path }} }} }}"
    )
}

/// Things of the owner's to do something with, made anew for each use.
struct Things<'a> {
    scene: &'a Scene,
    agent: String,
    n: u32,
}

impl Things<'_> {
    async fn ask(&self, field: &str, asked: &str, input: Value) -> Value {
        let document = document(field, asked);
        self.scene
            .client
            .done(&document, json!({ "input": input }))
            .await
    }

    async fn answered(&self) -> (String, String, String) {
        let sent = self
            .scene
            .client
            .send_to_agent(&self.agent, "Say it.")
            .await;
        self.scene.ended(&sent.run).await;
        let run = self.scene.run(&sent.run).await;
        let answer = run["output"]["id"].as_str().unwrap_or_default().to_owned();
        (sent.message, answer, sent.run)
    }

    /// An input for one use of a mutation.
    async fn input(&mut self, field: &str) -> Value {
        self.n += 1;
        let name = format!("thing {}", self.n);
        let id = |payload: &Value, what: &str| payload[what]["id"].clone();
        match field {
            "createApiKey" => json!({ "name": name, "kind": "PERSONAL" }),
            "revokeApiKey" => {
                let new = json!({ "name": name, "kind": "PERSONAL" });
                let made = self.ask("createApiKey", "apiKey { id }", new).await;
                json!({ "id": id(&made, "apiKey") })
            }
            "createTenant" => json!({ "slug": name.replace(' ', "-"), "name": name }),
            "updateTenant" => {
                let own = self.scene.client.ok("{ tenant { id } }", json!({})).await;
                json!({ "id": own["tenant"]["id"], "name": name })
            }
            "createUser" => self.person(&name),
            "updateMembership" | "removeMembership" => {
                let (membership, _) = self.member(&name).await;
                match field {
                    "updateMembership" => json!({ "id": membership, "role": "EDITOR" }),
                    _ => json!({ "id": membership }),
                }
            }
            "setUserActive" => json!({ "id": self.member(&name).await.1, "isActive": false }),
            "revokeUserSessions" | "resetPassword" => json!({ "id": self.member(&name).await.1 }),
            "setPlatformAdministrator" => {
                let user = self.member(&name).await.1;
                json!({ "id": user, "isPlatformAdministrator": false })
            }
            "unlinkIdentity" => json!({ "id": self.scene.identity(&name).await }),
            "createInvitation" => json!({ "role": "EDITOR" }),
            "revokeInvitation" => {
                let made = self
                    .ask("createInvitation", "invitation { id }", json!({}))
                    .await;
                json!({ "id": id(&made, "invitation") })
            }
            "createGroup" => json!({ "name": name }),
            "updateGroup" => {
                json!({ "id": self.group(&name).await, "name": format!("{name}, changed") })
            }
            "deleteGroup" => json!({ "id": self.group(&name).await }),
            "setGroupMember" | "removeGroupMember" => {
                let (group, user) = (self.group(&name).await, self.member(&name).await.1);
                let input = json!({ "groupId": group, "userId": user, "role": "EDITOR" });
                if field == "setGroupMember" {
                    return input;
                }
                self.ask("setGroupMember", "group { id }", input).await;
                json!({ "groupId": group, "userId": user })
            }
            "share" | "unshare" => {
                let new = json!({ "name": name, "instructions": "Be." });
                let made = self.ask("createAgent", "agent { id }", new).await;
                let with = json!({ "userId": self.member(&name).await.1 });
                let input = json!({ "id": id(&made, "agent"), "with": with, "access": "USE" });
                if field == "share" {
                    return input;
                }
                self.ask("share", "resource { id }", input.clone()).await;
                json!({ "id": input["id"], "with": input["with"] })
            }
            "createModel" => self.model(&name),
            "updateModel" | "deleteModel" | "checkModel" => {
                let made = self
                    .ask("createModel", "model { id }", self.model(&name))
                    .await;
                let mut input = json!({ "id": id(&made, "model") });
                if field == "updateModel" {
                    input["name"] = json!(format!("{name}, changed"));
                }
                input
            }
            "createAgent" => json!({ "name": name, "instructions": "Be." }),
            "updateAgent" | "deleteAgent" | "publishAgent" | "restoreAgentVersion" => {
                let new = json!({ "name": name, "instructions": "Be." });
                let made = self.ask("createAgent", "agent { id }", new).await;
                let mut input = json!({ "id": id(&made, "agent") });
                match field {
                    "updateAgent" => input["name"] = json!(format!("{name}, changed")),
                    "publishAgent" => {
                        let change = json!({ "id": input["id"], "instructions": "Be good." });
                        self.ask("updateAgent", "agent { id }", change).await;
                        input["notes"] = json!("better");
                    }
                    "restoreAgentVersion" => input["number"] = json!(1),
                    _ => {}
                }
                input
            }
            "createConversation" => json!({ "title": name }),
            "updateConversation" | "deleteConversation" => {
                let made = self
                    .ask("createConversation", "conversation { id }", json!({}))
                    .await;
                let mut input = json!({ "id": id(&made, "conversation") });
                if field == "updateConversation" {
                    input["title"] = json!(name);
                }
                input
            }
            "sendMessage" => json!({ "agentId": self.agent, "text": name }),
            "regenerateMessage" => json!({ "id": self.answered().await.1 }),
            "editMessage" => json!({ "id": self.answered().await.0, "text": name }),
            "rateMessage" => json!({ "id": self.answered().await.1, "rating": "UP" }),
            "cancelRun" => {
                let sent = self.scene.client.send_to_agent(&self.agent, "Wait.").await;
                json!({ "id": sent.run })
            }
            "retryRun" => {
                let sent = self.scene.client.send_to_agent(&self.agent, "Break.").await;
                self.scene.ended(&sent.run).await;
                json!({ "id": sent.run })
            }
            "revokeSession" => {
                let mut other = self.scene.weft.client();
                other
                    .sign_in(
                        support::client::OWNER_EMAIL,
                        support::client::OWNER_PASSWORD,
                    )
                    .await;
                let viewer = other
                    .ok("{ viewer { sessions { id isCurrent } } }", json!({}))
                    .await;
                let sessions = viewer["viewer"]["sessions"].as_array().cloned();
                let current = sessions
                    .into_iter()
                    .flatten()
                    .find(|session| session["isCurrent"] == true);
                json!({ "id": current.unwrap_or_default()["id"] })
            }
            // The new one is the old one: the owner's password stays what the other tests know.
            "changePassword" => json!({
                "currentPassword": support::client::OWNER_PASSWORD,
                "newPassword": support::client::OWNER_PASSWORD,
            }),
            field => panic!("{field} has no input"),
        }
    }

    async fn another_model(&self, name: &str) -> String {
        let address = self.scene.provider.base_url();
        self.scene
            .client
            .create_model("OPENAI_COMPATIBLE", &address, name)
            .await
    }

    fn person(&self, name: &str) -> Value {
        let email = format!("{}@example.test", name.replace(' ', "-"));
        json!({ "email": email, "name": name })
    }

    /// A member that the tenant manages: the membership and the user.
    async fn member(&self, name: &str) -> (Value, Value) {
        let asked = "membership { id user { id } }";
        let made = self.ask("createUser", asked, self.person(name)).await;
        let membership = &made["membership"];
        (membership["id"].clone(), membership["user"]["id"].clone())
    }

    async fn group(&self, name: &str) -> Value {
        let input = json!({ "name": name });
        let made = self.ask("createGroup", "group { id }", input).await;
        made["group"]["id"].clone()
    }

    fn model(&self, name: &str) -> Value {
        json!({
            "slug": name.replace(' ', "-"), "name": name, "kind": "CHAT", "provider": "OPENAI_COMPATIBLE", "modelName": "m",
            "baseUrl": self.scene.provider.base_url(), "apiKey": "sk-scripted",
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_does_it_once() {
    let scene = Scene::new().await;
    let agent = scene.agent("m").await;
    let script = Script::answer(|asked| match asked.last_user_message().as_str() {
        "Wait." => Turn::of([Step::Text("Well".into()), Step::Stall]),
        "Break." => Turn::refuse(400, &[]),
        _ => Turn::text("It."),
    });
    scene.provider.script("m", script);
    let cases: BTreeSet<_> = CASES
        .iter()
        .map(|(field, ..)| (*field).to_owned())
        .collect();
    assert_eq!(
        cases,
        keyed(&scene.client).await,
        "every mutation with a key has a case"
    );
    let mut things = Things {
        scene: &scene,
        agent,
        n: 0,
    };
    for (field, asked, other) in CASES {
        let document = document(field, asked);
        let mut input = things.input(field).await;
        input["idempotencyKey"] = json!(format!("key of {field}"));
        let variables = json!({ "input": input });

        // At the same time, and once more afterwards.
        let together = (0..6).map(|_| scene.client.ok(&document, variables.clone()));
        let mut answers = futures_util::future::join_all(together).await;
        answers.push(scene.client.ok(&document, variables.clone()).await);
        let first = &answers[0][*field];
        assert_eq!(first["errors"], json!([]), "{field}");
        for answer in &answers {
            assert_eq!(&answer[*field], first, "{field} was done twice");
        }

        let mut changed = input.clone();
        changed[*other] = match *other {
            "id" => json!(things.input(field).await["id"]),
            "modelId" => json!(things.another_model(field).await),
            "number" => json!(2),
            "role" => json!("MEMBER"),
            "access" => json!("READ"),
            "userId" => json!(things.input(field).await["userId"]),
            _ => json!("something else, longer than ten"),
        };
        let refused = scene
            .client
            .ok(&document, json!({ "input": changed }))
            .await;
        let error = &refused[*field]["errors"][0];
        assert_eq!(error["code"], "CONFLICT", "{field}: {refused}");
        assert_eq!(error["path"], json!(["input", "idempotencyKey"]), "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_is_and_is_not() {
    let scene = Scene::new().await;
    let make = document("createApiKey", "apiKey { id } secret");
    let input = json!({ "input": { "name": "laptop", "kind": "PERSONAL", "idempotencyKey": "k" } });
    let first = scene.client.done(&make, input.clone()).await;
    let again = scene.client.done(&make, input).await;
    assert_eq!(first["apiKey"], again["apiKey"]);
    assert!(first["secret"].is_string(), "{first}");
    assert_eq!(again["secret"], Value::Null, "a secret is shown once");

    // Null and absent are two inputs; the order of fields is none.
    let talk = document("createConversation", "conversation { id }");
    let one = json!({ "input": { "title": "A", "idempotencyKey": "t" } });
    let made = scene.client.done(&talk, one).await;
    let inline = "mutation { createConversation(input: { idempotencyKey: \"t\", title: \"A\" }) { conversation { id } errors { code } } }";
    let same = scene.client.done(inline, json!({})).await;
    assert_eq!(made["conversation"], same["conversation"]);

    // A refusal is not remembered: the same key may be used for what is right.
    let wrong = json!({ "input": { "title": "", "idempotencyKey": "r" } });
    let refused = scene.client.ok(&talk, wrong).await;
    assert_eq!(
        refused["createConversation"]["errors"][0]["code"],
        "INVALID_INPUT"
    );
    let right = json!({ "input": { "title": "B", "idempotencyKey": "r" } });
    scene.client.done(&talk, right).await;

    for key in ["", &"k".repeat(256)] {
        let bad = json!({ "input": { "title": "C", "idempotencyKey": key } });
        let refused = scene.client.ok(&talk, bad).await;
        let error = &refused["createConversation"]["errors"][0];
        assert_eq!(error["code"], "INVALID_INPUT", "{refused}");
        assert_eq!(error["path"], json!(["input", "idempotencyKey"]));
    }

    // Another person's key is another key, and what was done is seen with today's rights.
    let colleague = scene.colleague(Role::Editor).await;
    let theirs = json!({ "input": { "title": "A", "idempotencyKey": "t" } });
    let other = colleague.done(&talk, theirs).await;
    assert_ne!(made["conversation"], other["conversation"]);
    let delete = document("deleteConversation", "deletedIds");
    let gone = json!({ "input": { "id": made["conversation"]["id"] } });
    scene.client.done(&delete, gone).await;
    let again = scene.client.ok(inline, json!({})).await;
    assert_eq!(again["createConversation"]["conversation"], Value::Null);
    assert_eq!(again["createConversation"]["errors"], json!([]));
}
