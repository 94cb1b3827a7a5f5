//! The matrix: everything that the schema has, asked for by everybody who must not get through. It is made from the schema, so that
//! what is new is in it or fails it by name.

#![expect(
    clippy::print_stdout,
    reason = "how long each part took is worth knowing"
)]

mod sdl;
mod selection;
mod shown;
mod values;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};
use support::client::{Client, Form, Next};

use sdl::{Sdl, named};
use selection::{Document, Root, Selections, plain};
use shown::{Secrets, State, all_tokens, ids_by_type, said, take_in};
use values::{Use, Values};
use world::World;
pub use world::act;

/// Those who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    /// Without a credential.
    Stranger,
    /// A member without a right to anything.
    Member,
    /// A member of a group to which some is shown, and of no other.
    Grouped,
    /// Another tenant's owner.
    Elsewhere,
    /// By a key of the owner's that was revoked.
    Revoked,
    /// By a key that nobody made.
    Forged,
    /// By a session of the owner's that has ended.
    Ended,
    /// Who looks after the installation, in the tenant.
    Platform,
}

impl Who {
    /// Whether the credential is one.
    fn is_signed_in(self) -> bool {
        !matches!(
            self,
            Self::Stranger | Self::Revoked | Self::Forged | Self::Ended
        )
    }
}

/// What is answered without a credential. Nothing else is.
const PUBLIC: &[&str] = &[
    "acceptInvitation",
    "invitation",
    "redeemPasswordReset",
    "redeemSignInCode",
    "refreshSession",
    "service",
    "setUp",
    "signIn",
    "viewer",
];

/// What an administrator of the platform does in a tenant that is not his, and nobody else of the callers.
const BY_PLATFORM: &[&str] = &[
    "resetPassword",
    "revokeInvitation",
    "setPlatformAdministrator",
    "updateTenant",
];

/// What ends the caller's own session, and so comes last.
const LAST: &[&str] = &["signOut"];

/// What the owner is shown nowhere: how the installation is made, and what an invitation offers to whoever has its token.
const NOWHERE: &[&str] = &["InvitationPreview", "ServiceBackends"];

/// How many things of a type are asked for one by one.
const OF_EACH: usize = 8;

/// And how many are to be changed.
const OF_EACH_CHANGED: usize = 4;

/// How far below what is asked for.
const DEEP: usize = 3;
const SHALLOW: usize = 2;

/// How long nothing more comes of a stream that has told all.
const SILENCE: Duration = Duration::from_millis(400);

/// Documents by what they are about.
struct Reading(Vec<(String, Document)>);

impl Reading {
    /// Every root field of queries and `least` steps further, as far as there are values, and every node and `most` steps further;
    /// what there are no values for.
    fn written(sdl: &Sdl, values: &Values<'_>, least: usize, most: usize) -> (Self, Vec<String>) {
        let mut selections = Selections::new(sdl);
        let (mut roots, mut missing) = (Vec::new(), Vec::new());
        for field in sdl.fields("Query") {
            let name = field.name.node.to_string();
            // Its own is below, for each type.
            if name == "node" {
                continue;
            }
            let of = named(&field.ty.node);
            match values.calls(field) {
                Ok(calls) => {
                    let root = |call: String| {
                        // What is found by one of many ways is the same by each.
                        let is_one_of_many = ["filter:", "orderBy:", "ids:"];
                        let is_one_of_many = is_one_of_many.iter().any(|it| call.contains(it));
                        let depth = if is_one_of_many { 1 } else { least };
                        let fragment = sdl.is_composite(of).then(|| selections.of(of, depth));
                        Root { call, fragment }
                    };
                    roots.push((name, calls.into_iter().map(root).collect::<Vec<_>>()));
                }
                Err(what) => missing.push(what),
            }
        }
        for kind in sdl.possible("Node").unwrap_or_default() {
            // From these it goes on at once to what is asked for by itself, and there are many.
            let is_one_of_many = matches!(
                kind,
                "Agent" | "AuditEntry" | "Conversation" | "Message" | "Run"
            );
            let depth = if is_one_of_many { least } else { most };
            let fragment = selections.of(kind, depth);
            let ids = values.ids.get(kind).cloned().unwrap_or_default();
            if ids.is_empty() {
                missing.push(format!("node(id:): there is no {kind}"));
            }
            let root = |id: &String| Root {
                call: format!("node(id: \"{id}\")"),
                fragment: Some(fragment.clone()),
            };
            roots.push((kind.to_owned(), ids.iter().map(root).collect()));
        }
        let mut documents = Vec::new();
        for (name, roots) in roots {
            for document in selections.documents("query", &roots) {
                documents.push((name.clone(), document));
            }
        }
        (Self(documents), missing)
    }

    /// What the owner is answered.
    async fn read(&self, owner: &Client) -> Vec<Value> {
        let mut answers = Vec::new();
        for (name, document) in &self.0 {
            match owner.query(&document.text, json!({})).await {
                Ok(answer) => answers.push(plain(answer)),
                Err(errors) => panic!("{name} to the owner: {:#?}", errors.errors),
            }
        }
        answers
    }
}

fn codes(answer: &Value) -> BTreeSet<String> {
    let errors = answer["errors"].as_array().into_iter().flatten();
    errors
        .filter_map(|error| Some(error["extensions"]["code"].as_str()?.to_owned()))
        .collect()
}

fn of_types(answers: &[Value]) -> BTreeMap<String, Vec<String>> {
    let mut ids = BTreeMap::new();
    for answer in answers {
        ids_by_type(answer, &mut ids);
    }
    let some = |ids: BTreeSet<String>| ids.into_iter().take(OF_EACH).collect();
    ids.into_iter()
        .map(|(kind, ids)| (kind, some(ids)))
        .collect()
}

/// Without a credential, or with one that is none, nothing but what is public is answered, and that is.
fn wrongly_let_in(who: Who, name: &str, answer: &Value) -> Option<String> {
    let refused = match who {
        // A wrong password is another thing.
        Who::Stranger => answer["errors"][0]["message"] == "this needs a credential",
        _ => codes(answer).contains("UNAUTHENTICATED"),
    };
    let expected = match who {
        Who::Stranger => !PUBLIC.contains(&name),
        Who::Revoked | Who::Forged | Who::Ended => true,
        _ => return None,
    };
    (refused != expected).then(|| {
        let errors = &answer["errors"];
        format!("{name} to {who:?}: refused as unknown: {refused}, {errors}")
    })
}

async fn asked(client: &Client, document: &str) -> Value {
    plain(client.raw(document, json!({})).await.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_at_what_is_not_his() {
    let begun = std::time::Instant::now();
    let sdl = Sdl::printed().await;
    let world = World::made().await;
    println!("the world: {:?}", begun.elapsed());

    // What the owner finds without an id leads to ids, and these to others.
    let mut values = Values {
        sdl: &sdl,
        ids: BTreeMap::new(),
        names: &world.names,
    };
    loop {
        let (lists, missing) = Reading::written(&sdl, &values, 1, 0);
        if missing.is_empty() {
            break;
        }
        let known = values.ids.len();
        values.ids = of_types(&lists.read(&world.owner).await);
        assert!(values.ids.len() > known, "cases are missing: {missing:#?}");
    }
    let (reading, _) = Reading::written(&sdl, &values, SHALLOW, DEEP);
    let answers = reading.read(&world.owner).await;
    let (mut shown, mut before) = (BTreeSet::new(), State::new());
    for answer in &answers {
        all_tokens(answer, &mut shown);
        take_in(answer, &mut before);
    }
    println!(
        "{} documents, {} things, read by the owner: {:?}",
        reading.0.len(),
        before.len(),
        begun.elapsed()
    );

    let mut wrong = Vec::new();
    let followed = follow(&world, &sdl, &mut shown, &mut wrong).await;
    println!("followed: {:?}", begun.elapsed());

    // All of it can be seen, or nothing would be shown by its absence.
    let unseen: Vec<_> = world.words.difference(&shown).collect();
    assert!(unseen.is_empty(), "the owner does not see {unseen:?}");
    let reached = sdl.reached_from("Query");
    let unseen = reached
        .into_iter()
        .filter(|kind| *kind != "Query" && !shown.contains(*kind) && !NOWHERE.contains(kind));
    let unseen: Vec<_> = unseen.collect();
    assert!(
        unseen.is_empty(),
        "there is none of {unseen:?} in the scene"
    );

    let is_id = |token: &&String| {
        let Some((kind, rest)) = token.rsplit_once('_') else {
            return false;
        };
        rest.len() == 26 && kind.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let secrets = Secrets {
        world: &world,
        ids: shown.iter().filter(is_id).cloned().collect(),
    };
    for (name, document) in &reading.0 {
        let said = said(&document.text);
        for (who, client) in &world.callers {
            let answer = asked(client, &document.text).await;
            let root = document.roots[0].call.split('(').next().unwrap_or_default();
            wrong.extend(wrongly_let_in(*who, root, &answer));
            // What is found is no echo; what is said of what is not found may be one.
            let leaks = secrets.leaks(*who, &answer["data"], &BTreeSet::new());
            wrong.extend(
                leaks
                    .iter()
                    .map(|leak| format!("{name} to {who:?}: {leak}")),
            );
            let leaks = secrets.leaks(*who, &answer["errors"], &said);
            wrong.extend(
                leaks
                    .iter()
                    .map(|leak| format!("{name} to {who:?}: {leak}")),
            );
            if who.is_signed_in() && !answer["errors"].is_null() {
                wrong.push(format!("{name} to {who:?}: {}", answer["errors"]));
            }
        }
    }
    println!("read by the others: {:?}", begun.elapsed());
    for (who, events) in &followed {
        for event in events {
            let leaks = secrets.leaks(*who, event, &BTreeSet::new());
            wrong.extend(
                leaks
                    .iter()
                    .map(|leak| format!("an event to {who:?}: {leak}")),
            );
        }
    }

    change(&world, &sdl, &values, &secrets, &mut wrong).await;
    println!("changed: {:?}", begun.elapsed());
    let mut after = State::new();
    for answer in reading.read(&world.owner).await {
        take_in(&answer, &mut after);
    }
    for (id, fields) in &before {
        let now = after.get(id);
        if now != Some(fields) {
            let was = fields
                .iter()
                .filter(|(name, value)| now.and_then(|now| now.get(*name)) != Some(*value));
            let was: Vec<_> = was.collect();
            wrong.push(format!("{id} is not what it was: {was:?}"));
        }
    }
    // What they made for themselves its owner doesn't see, but for keys; and all of it is written down.
    let is_theirs = |id: &&String| id.starts_with("AuditEntry ") || id.starts_with("ApiKey ");
    let new = after.keys().filter(|id| !before.contains_key(*id));
    wrong.extend(
        new.filter(|id| !is_theirs(id))
            .map(|id| format!("{id} is new")),
    );
    println!("all: {:?}", begun.elapsed());
    assert!(wrong.is_empty(), "{} are wrong: {wrong:#?}", wrong.len());
    only_the_platform(&world, &values).await;
}

/// Every subscription from its beginning, by everybody: the events that callers were told.
async fn follow(
    world: &World,
    sdl: &Sdl,
    shown: &mut BTreeSet<String>,
    wrong: &mut Vec<String>,
) -> Vec<(Who, Vec<Value>)> {
    let mut told = Vec::new();
    for field in sdl.fields("Subscription") {
        let name = field.name.node.as_str();
        let call = match name {
            "changes" => format!("changes(after: \"{}\")", world.start),
            "conversationEvents" => format!(
                "conversationEvents(conversationId: \"{}\", after: \"{}\")",
                world.conversation, world.before_it_was_said
            ),
            "runEvents" => format!("runEvents(runId: \"{}\")", world.run),
            _ => panic!("the subscription {name} has no case"),
        };
        let mut selections = Selections::new(sdl);
        let root = Root {
            call,
            fragment: Some(selections.of(named(&field.ty.node), SHALLOW)),
        };
        let documents = selections.documents("subscription", &[root]);
        let text = &documents[0].text;
        let (refused, events) = told_to(&world.owner, text).await;
        assert!(
            refused.is_none() && !events.is_empty(),
            "{name}: {refused:?}"
        );
        for event in &events {
            all_tokens(event, shown);
        }
        for (who, client) in &world.callers {
            let (refused, events) = told_to(client, text).await;
            let expected = match who {
                Who::Stranger | Who::Revoked | Who::Forged | Who::Ended => Some("UNAUTHENTICATED"),
                Who::Elsewhere if name == "changes" => Some("INVALID_INPUT"),
                _ if name == "changes" => None,
                Who::Platform => Some("FORBIDDEN"),
                _ => Some("NOT_FOUND"),
            };
            if refused.as_deref() != expected {
                wrong.push(format!("{name} to {who:?}: {refused:?}, {events:?}"));
            }
            told.push((*who, events));
        }
    }
    told
}

/// The code of the refusal, or what is told until nothing more is.
async fn told_to(client: &Client, document: &str) -> (Option<String>, Vec<Value>) {
    let mut stream = match client.stream(Form::Events, document, json!({}), None).await {
        Ok(stream) => stream,
        Err(answer) => return (codes(&answer.json()).pop_first(), Vec::new()),
    };
    let mut events = Vec::new();
    loop {
        match tokio::time::timeout(SILENCE, stream.next(crate::scene::PATIENCE)).await {
            Ok(Next::Answer(_, answer)) => {
                if let Some(code) = codes(&answer).pop_first() {
                    return (Some(code), events);
                }
                events.push(plain(answer));
            }
            Ok(Next::Complete | Next::Broken) | Err(_) => return (None, events),
        }
    }
}

/// Every mutation with what a caller does not see, and with what he sees and may not change.
async fn change(
    world: &World,
    sdl: &Sdl,
    values: &Values<'_>,
    secrets: &Secrets<'_>,
    wrong: &mut Vec<String>,
) {
    let mut fields = sdl.fields("Mutation");
    fields.sort_by_key(|field| LAST.contains(&field.name.node.as_str()));
    for (who, client) in &world.callers {
        let own = own(client, *who).await;
        let narrowed = |wanted: &dyn Fn(&str) -> bool| {
            let ids = values.ids.iter().map(|(kind, ids)| {
                let others = ids.iter().filter(|id| !own.contains(*id) && wanted(id));
                (
                    kind.clone(),
                    others.take(OF_EACH_CHANGED).cloned().collect::<Vec<_>>(),
                )
            });
            Values {
                sdl,
                ids: ids.collect(),
                names: values.names,
            }
        };
        let hidden = narrowed(&|id| !world.may_see(*who, id));
        let seen = narrowed(&|id| world.may_see(*who, id));
        // Of a type of which he sees all, nothing is hidden.
        let mut first = hidden.clone();
        for (kind, ids) in &seen.ids {
            let first = first.ids.entry(kind.clone()).or_default();
            if first.is_empty() {
                first.clone_from(ids);
            }
        }
        for field in &fields {
            let name = field.name.node.as_str();
            let uses = if *who == Who::Platform && BY_PLATFORM.contains(&name) {
                hidden.uses(field).unwrap_or_default()
            } else {
                let mut uses = match first.uses(field) {
                    Ok(uses) => uses,
                    Err(missing) => panic!("a case is missing: {missing}"),
                };
                // What is seen may be used, and not be changed.
                let more = seen.uses(field).unwrap_or_default();
                uses.extend(
                    more.into_iter()
                        .filter(|it| it.is_least && it.names_something),
                );
                uses
            };
            let mut selections = Selections::new(sdl);
            let fragment = Some(selections.of(named(&field.ty.node), 1));
            let root = |used: &Use| Root {
                call: used.call.clone(),
                fragment: fragment.clone(),
            };
            let roots: Vec<Root> = uses.iter().map(root).collect();
            let mut at = 0;
            for document in selections.documents("mutation", &roots) {
                let answer = asked(client, &document.text).await;
                wrong.extend(wrongly_let_in(*who, name, &answer));
                let said = said(&document.text);
                let leaks = secrets.leaks(*who, &answer, &said);
                wrong.extend(
                    leaks
                        .iter()
                        .map(|leak| format!("{name} to {who:?}: {leak}")),
                );
                for (n, _) in document.roots.iter().enumerate() {
                    let Use {
                        call,
                        names_something,
                        is_least,
                    } = &uses[at];
                    at += 1;
                    if !names_something || !who.is_signed_in() {
                        continue;
                    }
                    let payload = &answer["data"][format!("r{n}")];
                    let code = payload["errors"][0]["code"].as_str();
                    let code = code.map(str::to_owned).or(codes(&answer).pop_first());
                    let code = code.as_deref().unwrap_or("done");
                    // Of much input something else may be wrong as well.
                    // For another tenant's owner, who may do all of it at home, there is no such thing.
                    let is_refused = match code {
                        "NOT_FOUND" => true,
                        "FORBIDDEN" => *who != Who::Elsewhere || BY_PLATFORM.contains(&name),
                        code => !is_least && code != "done",
                    };
                    if !is_refused {
                        wrong.push(format!("{call} by {who:?}: {code}"));
                    }
                }
            }
        }
    }
}

/// The caller's own user and membership: what he does with these is his affair.
async fn own(client: &Client, who: Who) -> BTreeSet<String> {
    if !who.is_signed_in() {
        return BTreeSet::new();
    }
    let own = "{ viewer { user { id } memberships { id } } }";
    let mut tokens = BTreeSet::new();
    all_tokens(&client.ok(own, json!({})).await, &mut tokens);
    tokens
}

/// And what is his alone an administrator of the platform may.
async fn only_the_platform(world: &World, values: &Values<'_>) {
    let visiting = &world.platform;
    for name in BY_PLATFORM {
        let id = match *name {
            "updateTenant" => values.ids["Tenant"][0].clone(),
            "revokeInvitation" => {
                let owner = json!({ "role": "OWNER" });
                let made = act(visiting, "createInvitation", owner, "invitation { id }").await;
                made["invitation"]["id"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            }
            _ => world.free.clone(),
        };
        let (more, asked) = match *name {
            "setPlatformAdministrator" => {
                (json!({ "isPlatformAdministrator": true }), "user { id }")
            }
            "updateTenant" => (json!({ "name": "Renamed" }), "tenant { id }"),
            "revokeInvitation" => (json!({}), "deletedIds"),
            _ => (json!({}), "user { id }"),
        };
        let mut input = more;
        input["id"] = id.into();
        act(visiting, name, input, asked).await;
    }
}
