//! A tenant in which there is at least one of everything, each with words of its own, and those who ask for it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use support::{
    client::{Client, OWNER_EMAIL, OWNER_PASSWORD},
    provider::{Script, Step, Turn},
    server::Options,
};

use super::Who::{self, Elsewhere, Grouped, Member, Platform};
use crate::scene::Scene;

/// A number that stands nowhere else.
pub const SECRET_NUMBER: i64 = 31_337;

/// A key by its form.
const FORGED: &str = "weft_pk_0000000000000000000000000000000000000000000000000";

/// Everybody of the tenant but its owner.
const HERE: &[Who] = &[Member, Grouped];
/// And who may see who is in it.
const COUNTED: &[Who] = &[Member, Grouped, Platform];

pub struct World {
    pub scene: Scene,
    /// Of the tenant, whose answers show that the others' could show something.
    pub owner: Client,
    pub callers: Vec<(Who, Client)>,
    /// The administrator of the platform in the tenant, by another session than the caller's.
    pub platform: Client,
    /// Words and ids that somebody beside the owner may see, and who.
    shown: BTreeMap<String, BTreeSet<Who>>,
    /// All words of the tenant's.
    pub words: BTreeSet<String>,
    /// Values of arguments that are not ids, by the type that is found and the argument.
    pub names: BTreeMap<(&'static str, &'static str), Vec<String>>,
    /// Before anything changed in the tenant, and before anything was said in the conversation that is followed.
    pub start: String,
    pub before_it_was_said: String,
    /// What is followed.
    pub conversation: String,
    pub run: String,
    /// Somebody whom the tenant doesn't manage.
    pub free: String,
    /// The conversation that the group sees.
    pub told_to_group: String,
}

/// Does a mutation; its payload.
pub async fn act(client: &Client, field: &str, input: Value, asked: &str) -> Value {
    let mut name = field.to_owned();
    name[..1].make_ascii_uppercase();
    let document = format!(
        "mutation ($input: {name}Input!) {{ {field}(input: $input) {{ {asked} errors {{ code message path }} }} }}"
    );
    client.done(&document, json!({ "input": input })).await
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("a string, not {value}"))
        .to_owned()
}

/// No limit stands in the way of a document.
fn roomy() -> Options {
    let many = [
        "MAX_COMPLEXITY",
        "COST_BUCKET",
        "ADDRESS_COST_BUCKET",
        "COST_RESTORE_PER_S",
    ];
    let mut options = many.iter().fold(Options::default(), |options, name| {
        options.with(&format!("WEFT_LIMITS__{name}"), "1000000000")
    });
    for (name, value) in [
        ("MAX_DEPTH", "50"),
        ("MAX_ALIASES", "10000"),
        ("MAX_DOCUMENT_BYTES", "1048576"),
        ("QUERY_TIMEOUT_MS", "60000"),
        ("MUTATION_TIMEOUT_MS", "60000"),
        ("MAX_CONNECTIONS_PER_USER", "1000"),
    ] {
        options = options.with(&format!("WEFT_LIMITS__{name}"), value);
    }
    options
}

impl World {
    /// Words that nobody else says: beside the owner those may see them.
    fn word(&mut self, label: &str, shown: &[Who]) -> String {
        let word = format!("cnry-{label}-z");
        self.words.insert(word.clone());
        self.show(&word, shown);
        word
    }

    /// Those may see what has this id, or reads so.
    pub fn show(&mut self, what: &str, to: &[Who]) {
        self.shown.entry(what.to_owned()).or_default().extend(to);
    }

    /// Whether somebody may see it. What nothing was said of is the owner's alone.
    pub fn may_see(&self, who: Who, what: &str) -> bool {
        // Whoever may read the audit log reads all of it.
        if who == Platform && what.starts_with("audit_") {
            return true;
        }
        self.shown
            .get(what)
            .is_some_and(|shown| shown.contains(&who))
    }

    pub fn name(&mut self, of: &'static str, argument: &'static str, value: String) {
        self.names.entry((of, argument)).or_default().push(value);
    }

    pub async fn made() -> Self {
        let scene = Scene::with(roomy()).await;
        let elsewhere = scene.stranger().await;
        let administrator = scene.client.clone();
        let nobody = scene.weft.client();
        let mut platform = nobody.in_tenant(Some("guarded"));
        let mut again = nobody.clone();
        again.sign_in(OWNER_EMAIL, OWNER_PASSWORD).await;
        let mut world = Self {
            platform: platform.clone(),
            owner: nobody.clone(),
            scene,
            callers: Vec::new(),
            shown: BTreeMap::new(),
            words: BTreeSet::new(),
            names: BTreeMap::new(),
            start: String::new(),
            before_it_was_said: String::new(),
            conversation: String::new(),
            run: String::new(),
            free: String::new(),
            told_to_group: String::new(),
        };
        let name = world.word("tenant", COUNTED);
        let tenant = json!({ "slug": "guarded", "name": name });
        act(&administrator, "createTenant", tenant, "tenant { id }").await;
        let visiting = administrator.in_tenant(Some("guarded"));
        platform.token = again.token;
        world.platform = platform;
        world.owner = world
            .joined(&visiting, "owner", json!({ "role": "OWNER" }))
            .await;
        let owner = world.owner.clone();
        let data = owner.ok("{ viewer { cursor } }", json!({})).await;
        world.start = text(&data["viewer"]["cursor"]);

        let (inner, shown_group) = world.groups().await;
        let member = world.joined(&owner, "member", json!({})).await;
        let ids = json!({ "groupIds": [shown_group] });
        let grouped = world.joined(&owner, "grouped", ids).await;
        world.people(&inner).await;
        let (revoked, ended) = world.credentials().await;
        world.things(&shown_group).await;
        world.callers = vec![
            (Who::Forged, nobody.with_token(Some(FORGED))),
            (Who::Stranger, nobody),
            (Who::Member, member),
            (Who::Grouped, grouped),
            (Who::Elsewhere, elsewhere),
            (Who::Revoked, revoked),
            (Who::Ended, ended),
            (Who::Platform, visiting),
        ];
        world.who_is_seen().await;
        world
    }

    /// Somebody who accepts an invitation.
    async fn joined(&mut self, inviter: &Client, label: &str, invitation: Value) -> Client {
        let mut himself = vec![Platform];
        himself.extend(match label {
            "member" => Some(Member),
            "grouped" => Some(Grouped),
            _ => None,
        });
        let address = self.word(&format!("{label}s-address"), &himself);
        let name = self.word(&format!("{label}s-name"), COUNTED);
        let made = act(
            inviter,
            "createInvitation",
            invitation,
            "invitation { id } token",
        )
        .await;
        if label == "owner" {
            // An administrator of the platform sees those that one of them made.
            self.show(&text(&made["invitation"]["id"]), &[Platform]);
        }
        let person = json!({ "token": made["token"], "email": format!("{address}@example.test"), "name": name, "password": OWNER_PASSWORD });
        let nobody = self.scene.weft.client();
        let accepted = act(&nobody, "acceptInvitation", person, "accessToken").await;
        nobody.with_token(accepted["accessToken"].as_str())
    }

    /// A group within another that the callers are no members of, and one that one of them is.
    async fn groups(&mut self) -> (String, String) {
        let owner = self.owner.clone();
        let (outer, inner) = (self.word("outer", &[]), self.word("inner", &[]));
        let made = |name: &str, parent: Value, description: &str| json!({ "name": name, "description": description, "parentId": parent });
        let described = self.word("described", &[]);
        let first = act(
            &owner,
            "createGroup",
            made(&outer, Value::Null, &described),
            "group { id }",
        )
        .await;
        let second = made(&inner, first["group"]["id"].clone(), "");
        let second = act(&owner, "createGroup", second, "group { id path }").await;
        self.name("Group", "path", outer);
        self.name("Group", "path", text(&second["group"]["path"]));
        let shown = self.word("theirs", &[Grouped]);
        let third = act(
            &owner,
            "createGroup",
            made(&shown, Value::Null, &shown),
            "group { id }",
        )
        .await;
        let third = text(&third["group"]["id"]);
        self.show(&third, &[Grouped]);
        self.name("Group", "path", shown);
        (text(&second["group"]["id"]), third)
    }

    /// A managed account, an invitation, an identity.
    async fn people(&mut self, group: &str) {
        let owner = self.owner.clone();
        let name = self.word("bystanders-name", COUNTED);
        let address = self.word("bystanders-address", &[Platform]);
        let input = json!({ "name": name, "email": format!("{address}@example.test"), "groupIds": [group] });
        act(&owner, "createUser", input, "membership { id }").await;
        let address = self.word("invited", &[]);
        let input = json!({ "email": format!("{address}@example.test"), "groupIds": [group] });
        act(&owner, "createInvitation", input, "invitation { id }").await;
        let subject = self.word("subject", &[]);
        self.scene
            .identity_of("cnry-owners-address-z@example.test", &subject)
            .await;
    }

    /// A key of each kind that stays, a key that was revoked, and a session that has ended.
    async fn credentials(&mut self) -> (Client, Client) {
        let owner = self.owner.clone();
        let name = self.word("key", &[]);
        let personal = json!({ "name": name, "kind": "PERSONAL" });
        act(&owner, "createApiKey", personal, "apiKey { id }").await;
        // Its account is a user of the tenant by that name.
        let name = self.word("service", COUNTED);
        let service = json!({ "name": name, "kind": "SERVICE", "permissions": ["AGENTS_USE"] });
        act(&owner, "createApiKey", service, "apiKey { id }").await;
        let name = self.word("revoked", &[]);
        let revoked = json!({ "name": name, "kind": "PERSONAL" });
        let revoked = act(&owner, "createApiKey", revoked, "apiKey { id } secret").await;
        let id = json!({ "id": revoked["apiKey"]["id"] });
        act(&owner, "revokeApiKey", id, "deletedIds").await;
        let mut ended = self.scene.weft.client();
        ended
            .sign_in("cnry-owners-address-z@example.test", OWNER_PASSWORD)
            .await;
        act(&ended, "signOut", json!({}), "ended").await;
        let nobody = self.scene.weft.client();
        (nobody.with_token(revoked["secret"].as_str()), ended)
    }

    /// A model that is called; its id.
    async fn model(&mut self, label: &str, script: impl Into<Script>) -> String {
        let (slug, model) = (
            self.word(label, &[]),
            self.word(&format!("{label}-at"), &[]),
        );
        self.scene.provider.script(&model, script);
        let input = json!({
            "slug": slug, "name": slug, "kind": "CHAT", "provider": "OPENAI_COMPATIBLE", "modelName": model,
            "baseUrl": self.scene.provider.base_url(), "apiKey": "sk-scripted", "visibility": "PRIVATE",
            "pricing": { "inputPerMillion": "1" }, "timeoutMs": 600_000,
        });
        let made = act(&self.owner, "createModel", input, "model { id }").await;
        self.name("Model", "slug", slug);
        text(&made["model"]["id"])
    }

    /// Models, agents, conversations and runs.
    async fn things(&mut self, group: &str) {
        let owner = self.owner.clone();
        // Seen by some, never called: where it is called is for those alone who may change it.
        for (visibility, to) in [("TENANT", HERE), ("GROUP", &[Grouped][..])] {
            let label = visibility.to_lowercase();
            let slug = self.word(&format!("model-of-{label}"), to);
            let place = self.word(&format!("place-of-{label}"), &[]);
            let header = self.word(&format!("header-of-{label}"), &[]);
            let input = json!({
                "slug": slug, "name": slug, "kind": "CHAT", "provider": "OPENAI_COMPATIBLE", "modelName": slug,
                "baseUrl": format!("http://127.0.0.1:4999/{place}"), "headers": [{ "name": header, "value": "x" }],
                "visibility": visibility, "groupId": (visibility == "GROUP").then_some(group),
            });
            let made = act(&owner, "createModel", input, "model { id }").await;
            self.show(&text(&made["model"]["id"]), to);
            self.name("Model", "slug", slug);
        }
        let (thought, said, tool, argument) = (
            self.word("thought", &[]),
            self.word("said", &[]),
            self.word("tool", &[]),
            self.word("argument", &[]),
        );
        let calls = Turn::of([
            Step::Reasoning(thought),
            Step::Text(said),
            Step::ToolCall {
                index: 0,
                id: "t1".into(),
                name: tool,
            },
            Step::ToolArguments {
                index: 0,
                text: json!({ "at": argument }).to_string(),
            },
            Step::Finish("tool_calls".into()),
        ]);
        let hush = self
            .model("hush", vec![calls, Turn::text("That was all.")])
            .await;
        let answer = self.word("answer", &[Grouped]);
        let open = self.model("open", Turn::text(&answer)).await;
        let stalled = self
            .model(
                "stalled",
                Turn::of([Step::Text("Wait.".into()), Step::Stall]),
            )
            .await;
        let detail = self.word("detail", &[]);
        let failing = Turn {
            status: 400,
            ..Turn::of([Step::Text(detail)])
        };
        let failing = self.model("failing", failing).await;

        let private = self
            .agent("quiet", &[], &[], json!({ "modelId": hush }))
            .await;
        let of_group = json!({ "modelId": open, "visibility": "GROUP", "groupId": group });
        self.agent("groups", &[Grouped], &[Grouped], of_group).await;
        let used = json!({ "modelId": open, "maxOutputTokens": SECRET_NUMBER });
        let used = self.agent("used", HERE, &[], used).await;
        let gone = self.model("gone", Turn::text("Never.")).await;
        self.agent("broken", &[], &[], json!({ "modelId": gone }))
            .await;
        let gone = json!({ "id": gone, "force": true });
        act(&owner, "deleteModel", gone, "deletedIds").await;
        let own = owner.ok("{ tenant { id } }", json!({})).await;
        let share =
            json!({ "id": used, "with": { "tenantId": own["tenant"]["id"] }, "access": "USE" });
        act(&owner, "share", share, "resource { id }").await;

        let question = self.word("question", &[]);
        let sent = owner.send_to_agent(&private, &question).await;
        self.ended(&sent.run).await;
        (self.conversation, self.run) = (sent.conversation.clone(), sent.run.clone());
        self.before_it_was_said = sent.cursor;
        let title = self.word("title", &[]);
        let title = json!({ "id": sent.conversation, "title": title });
        act(&owner, "updateConversation", title, "conversation { id }").await;
        let run = "query ($id: ID!) { run(id: $id) { status output { id } } }";
        let run = owner.ok(run, json!({ "id": sent.run })).await;
        assert_eq!(run["run"]["status"], "COMPLETED");
        let comment = self.word("comment", &[]);
        let rating =
            json!({ "id": run["run"]["output"]["id"], "rating": "UP", "comment": comment });
        act(&owner, "rateMessage", rating, "message { id }").await;

        let told = self.word("told", &[Grouped]);
        let sent = owner.send_to_agent(&used, &told).await;
        self.ended(&sent.run).await;
        self.told_to_group = sent.conversation.clone();
        let more = json!({ "conversationId": sent.conversation, "text": told, "modelId": failing });
        let failed = owner.send_message(more).await;
        self.ended(&failed.run).await;
        let share =
            json!({ "id": sent.conversation, "with": { "groupId": group }, "access": "READ" });
        act(&owner, "share", share, "resource { id }").await;

        let waits = self.word("waits", &[]);
        let waits = json!({ "agentId": private, "text": waits, "modelId": stalled });
        let waits = owner.send_message(waits).await;
        let run = "query ($id: ID!) { run(id: $id) { status output { text } } }";
        support::wait::until(crate::scene::PATIENCE, "it says something", async || {
            let run = owner.ok(run, json!({ "id": waits.run })).await;
            (run["run"]["output"]["text"] == "Wait.").then_some(())
        })
        .await;
    }

    async fn ended(&self, run: &str) {
        let document = "query ($id: ID!) { run(id: $id) { finishedAt } }";
        support::wait::until(crate::scene::PATIENCE, "the run ends", async || {
            let run = self.owner.ok(document, json!({ "id": run })).await;
            run["run"]["finishedAt"].is_string().then_some(())
        })
        .await;
    }

    /// An agent with two versions and a draft; its id. `used` see that it is there, `read` what it is made of.
    async fn agent(&mut self, label: &str, used: &[Who], read: &[Who], more: Value) -> String {
        let owner = self.owner.clone();
        let mut word = |what: &str, to: &[Who]| self.word(&format!("{label}-{what}"), to);
        let slug = word("slug", used);
        let mut input = json!({
            "slug": slug, "visibility": "PRIVATE", "name": word("name", used), "description": word("description", used),
            "greeting": word("greeting", used), "starters": [word("starter", used)], "instructions": word("told-first", read),
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            input[name] = value.clone();
        }
        let told = word("told-then", read);
        let (version, notes) = (word("version", used), word("notes", read));
        let draft = word("draft", &[]);
        let made = act(&owner, "createAgent", input, "agent { id version { id } }").await;
        let id = text(&made["agent"]["id"]);
        let input = json!({ "id": id, "instructions": told });
        act(&owner, "updateAgent", input, "agent { id }").await;
        let input = json!({ "id": id, "name": version, "notes": notes });
        let published = act(&owner, "publishAgent", input, "version { id }").await;
        let input = json!({ "id": id, "instructions": draft });
        act(&owner, "updateAgent", input, "agent { id }").await;
        self.show(&id, used);
        self.show(&text(&published["version"]["id"]), used);
        self.show(&text(&made["agent"]["version"]["id"]), read);
        self.name("Agent", "slug", slug);
        id
    }

    /// What follows from who belongs to the tenant and from what every tenant begins with.
    async fn who_is_seen(&mut self) {
        let owner = self.owner.clone();
        let seen = "{ tenant { id members(first: 50) { nodes { id user { id } } } apiKeys { nodes { owner { id } } }
            invitations { nodes { invitedBy { id } } } }
            agents { nodes { id visibility version { id } } } models { nodes { id visibility } } }";
        let seen = owner.ok(seen, json!({})).await;
        let list = |value: &Value| value["nodes"].as_array().cloned().unwrap_or_default();
        self.show(&text(&seen["tenant"]["id"]), COUNTED);
        for member in list(&seen["tenant"]["members"]) {
            self.show(&text(&member["id"]), &[Platform]);
            self.show(&text(&member["user"]["id"]), COUNTED);
        }
        for key in list(&seen["tenant"]["apiKeys"]) {
            self.show(&text(&key["owner"]["id"]), COUNTED);
        }
        for kind in ["agents", "models"] {
            for thing in list(&seen[kind]) {
                if thing["visibility"] == "TENANT" {
                    self.show(&text(&thing["id"]), HERE);
                    if let Some(version) = thing["version"]["id"].as_str() {
                        self.show(version, HERE);
                    }
                }
            }
        }
        // Whoever invited both owners is known to both.
        for invitation in list(&seen["tenant"]["invitations"]) {
            let by = text(&invitation["invitedBy"]["id"]);
            if !self.shown.contains_key(&by) {
                self.show(&by, &[Elsewhere, Platform]);
            }
        }
        let own = "{ viewer { user { id } memberships { id } } }";
        for (who, client) in self.callers.clone() {
            if matches!(who, Member | Grouped) {
                let own = client.ok(own, json!({})).await;
                self.show(&text(&own["viewer"]["memberships"][0]["id"]), &[who]);
                self.free = text(&own["viewer"]["user"]["id"]);
            }
        }
        let told = "query ($id: ID!, $group: ID!) {
            conversation(id: $id) { id messages(first: 50) { nodes { id } } runs(first: 50) { nodes { id } } }
            group(id: $group) { members { nodes { id } } } }";
        let group = self.names[&("Group", "path")][2].clone();
        let group = owner
            .ok(
                "query ($path: String!) { group(path: $path) { id } }",
                json!({ "path": group }),
            )
            .await;
        let told = owner
            .ok(
                told,
                json!({ "id": self.told_to_group, "group": group["group"]["id"] }),
            )
            .await;
        self.show(&text(&told["conversation"]["id"]), &[Grouped]);
        for kind in ["messages", "runs"] {
            for thing in list(&told["conversation"][kind]) {
                self.show(&text(&thing["id"]), &[Grouped]);
            }
        }
        for member in list(&told["group"]["members"]) {
            self.show(&text(&member["id"]), &[Grouped]);
        }
    }
}
