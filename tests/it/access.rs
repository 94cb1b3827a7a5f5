//! Who sees what, over the wire, by a model of ten lines: a world of people, groups, shares, roles and a suspension is made by chance, and
//! each one's lists, counts, searches, single rows and live changes have to say what the model says.

use std::collections::BTreeSet;

use entities::Role;
use serde_json::{Value, json};
use support::{
    client::{Client, Subscription},
    provider::Script,
    wait::until,
};

use crate::{
    neighbour::invited,
    scene::{PATIENCE, Scene},
};

const PEOPLE: usize = 5;
const THINGS: usize = 12;
const WORDS: [&str; 2] = ["shuttle", "heddle"];
/// What is given, from least to most; 0 is nothing.
const ACCESS: [&str; 5] = ["", "USE", "READ", "EDIT", "MANAGE"];
/// The groups and the one around each.
const GROUPS: [(&str, Option<usize>); 3] = [("Mill", None), ("Loom", Some(0)), ("Dye", None)];
const ROLES: [Role; 4] = [Role::Member, Role::Member, Role::Editor, Role::Admin];

/// A small generator (xorshift64*): a failure is told with its seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap_or_default() % most
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum With {
    Person(usize),
    Group(usize),
    Tenant,
}

#[derive(Debug)]
struct Thing {
    id: String,
    is_talk: bool,
    owner: usize,
    group: Option<usize>,
    visibility: &'static str,
    shares: Vec<(With, usize)>,
    word: &'static str,
}

struct Person {
    client: Client,
    id: String,
    role: Role,
    is_suspended: bool,
}

struct World {
    seed: u64,
    people: Vec<Person>,
    groups: Vec<String>,
    /// Whose role in which group.
    members: Vec<(usize, usize, Role)>,
    things: Vec<Thing>,
    /// Agents that everybody sees: one that talks, and one whose change is the last to be told.
    common: [String; 2],
}

impl World {
    fn role_in(&self, person: usize, group: usize) -> Option<Role> {
        let direct = self.members.iter();
        let direct = direct.filter(|it| (it.0, it.1) == (person, group));
        let around = GROUPS[group].1.and_then(|it| self.role_in(person, it));
        direct.map(|it| it.2).max().max(around)
    }

    /// The rule.
    fn access(&self, person: usize, it: &Thing) -> usize {
        let Person {
            role, is_suspended, ..
        } = &self.people[person];
        let here = it.group.and_then(|group| self.role_in(person, group));
        let reaches = |with: &With| match *with {
            With::Person(other) => other == person,
            With::Group(group) => self.role_in(person, group).is_some(),
            With::Tenant => true,
        };
        let shared = it.shares.iter().filter(|(with, _)| reaches(with));
        let mut most = shared.map(|(_, access)| *access).max().unwrap_or(0);
        if it.visibility == "TENANT" || it.visibility == "GROUP" && here.is_some() {
            most = most.max(2);
        }
        if here >= Some(Role::Editor) {
            most = most.max(3);
        }
        if it.owner == person || !it.is_talk && *role >= Role::Admin || here >= Some(Role::Admin) {
            most = 4;
        }
        if *is_suspended { 0 } else { most }
    }

    fn seen(&self, person: usize, wanted: impl Fn(&Thing) -> bool) -> BTreeSet<String> {
        let seen = self.things.iter();
        let seen = seen.filter(|it| wanted(it) && self.access(person, it) > 0);
        seen.map(|it| it.id.clone()).collect()
    }
}

/// Does it, if it is allowed.
async fn did(client: &Client, mutation: &str, input: Value, wanted: &str) -> Option<Value> {
    let (first, rest) = mutation.split_at(1);
    let kind = format!("{}{rest}Input", first.to_uppercase());
    let document = format!(
        "mutation ($input: {kind}!) {{ {mutation}(input: $input) {{ {wanted} errors {{ code message }} }} }}"
    );
    let data = client.ok(&document, json!({ "input": input })).await;
    let payload = data[mutation].clone();
    let refused = payload["errors"]
        .as_array()
        .is_some_and(|it| !it.is_empty());
    (!refused).then_some(payload)
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

async fn world(scene: &Scene, seed: u64) -> World {
    let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let owner = &scene.client;
    let mut people = Vec::new();
    for n in 0..PEOPLE {
        let role = match n {
            0 => Role::Owner,
            1 => Role::Editor,
            _ => ROLES[chance.below(ROLES.len())],
        };
        let client = match n {
            0 => owner.clone(),
            _ => invited(scene, owner, &format!("person-{n}@example.test"), role).await,
        };
        let id = client.ok("{ viewer { user { id } } }", json!({})).await;
        people.push(Person {
            client,
            id: text(&id["viewer"]["user"]["id"]),
            role,
            is_suspended: false,
        });
    }
    scene.provider.script("talker", Script::text("Woven."));
    let talker = scene.agent("talker").await;
    let input = json!({ "name": "Last", "instructions": "None.", "visibility": "TENANT" });
    let last = did(owner, "createAgent", input, "agent { id }").await;
    let last = text(&last.expect("an agent")["agent"]["id"]);
    let mut world = World {
        seed,
        people,
        groups: Vec::new(),
        members: Vec::new(),
        things: Vec::new(),
        common: [talker, last],
    };
    for (name, around) in GROUPS {
        let around = around.map(|around| world.groups[around].clone());
        let input = json!({ "name": name, "parentId": around });
        let made = did(owner, "createGroup", input, "group { id }").await;
        world
            .groups
            .push(text(&made.expect("a group")["group"]["id"]));
    }
    for _ in 0..4 {
        let (person, group) = (1 + chance.below(PEOPLE - 1), chance.below(GROUPS.len()));
        let role = ROLES[chance.below(ROLES.len())];
        world.members.retain(|it| (it.0, it.1) != (person, group));
        let input = json!({
            "groupId": world.groups[group], "userId": world.people[person].id, "role": format!("{role:?}").to_uppercase(),
        });
        let made = did(owner, "setGroupMember", input, "group { id }").await;
        made.expect("a member");
        world.members.push((person, group, role));
    }
    for n in 0..THINGS {
        let thing = thing(&world, &mut chance, n).await;
        world.things.push(thing);
    }
    world
}

/// An agent or a conversation, of somebody who may have one, and shared as far as that is allowed.
async fn thing(world: &World, chance: &mut Chance, n: usize) -> Thing {
    let word = WORDS[chance.below(WORDS.len())];
    let is_talk = n % 2 == 1;
    let mut thing = if is_talk {
        let owner = chance.below(PEOPLE);
        let client = &world.people[owner].client;
        let sent = client
            .send_to_agent(&world.common[0], &format!("{word} number {n}"))
            .await;
        // Else one is made up for it, later.
        let input = json!({ "id": sent.conversation, "title": format!("{word} {n}") });
        let named = did(client, "updateConversation", input, "conversation { id }").await;
        named.expect("a title");
        Thing {
            id: sent.conversation,
            is_talk,
            owner,
            group: None,
            visibility: "PRIVATE",
            shares: Vec::new(),
            word,
        }
    } else {
        let owner = [0, 1][chance.below(2)];
        let client = &world.people[owner].client;
        let mut group = (chance.below(2) == 0).then(|| chance.below(GROUPS.len()));
        let mut visibility = match (group, chance.below(3)) {
            (_, 0) => "TENANT",
            (Some(_), 1) => "GROUP",
            _ => "PRIVATE",
        };
        let input = |group: Option<usize>, visibility| {
            json!({
                "name": format!("{word} {n}"), "instructions": "Weave.", "visibility": visibility,
                "groupId": group.map(|group| &world.groups[group]),
            })
        };
        let mut made = did(
            client,
            "createAgent",
            input(group, visibility),
            "agent { id }",
        )
        .await;
        if made.is_none() {
            // Not everybody may put something into a group.
            (group, visibility) = (None, "PRIVATE");
            made = did(
                client,
                "createAgent",
                input(group, visibility),
                "agent { id }",
            )
            .await;
        }
        Thing {
            id: text(&made.expect("an agent")["agent"]["id"]),
            is_talk,
            owner,
            group,
            visibility,
            shares: Vec::new(),
            word,
        }
    };
    let client = &world.people[thing.owner].client;
    for _ in 0..chance.below(3) {
        let access = 1 + usize::from(is_talk) + chance.below(4 - usize::from(is_talk));
        let (with, grantee) = match chance.below(3) {
            0 => {
                let other = chance.below(PEOPLE);
                (
                    With::Person(other),
                    json!({ "userId": world.people[other].id }),
                )
            }
            1 => {
                let group = chance.below(GROUPS.len());
                (
                    With::Group(group),
                    json!({ "groupId": world.groups[group] }),
                )
            }
            _ => {
                let tenant = client.ok("{ viewer { tenant { id } } }", json!({})).await;
                (
                    With::Tenant,
                    json!({ "tenantId": tenant["viewer"]["tenant"]["id"] }),
                )
            }
        };
        let input = json!({ "id": thing.id, "with": grantee, "access": ACCESS[access] });
        if did(client, "share", input, "resource { __typename }")
            .await
            .is_some()
        {
            thing.shares.retain(|(other, _)| *other != with);
            thing.shares.push((with, access));
        }
    }
    thing
}

const LISTS: &str = "query ($ids: [ID!]!, $word: String!) {
    agents(first: 100) { totalCount nodes { id } }
    foundAgents: agents(first: 100, filter: { query: $word }) { totalCount nodes { id } }
    talks: conversations(first: 100) { totalCount nodes { id } }
    foundTalks: conversations(first: 100, filter: { query: $word }) { totalCount nodes { id } }
    nodes(ids: $ids) { id ... on Agent { viewerAccess } ... on Conversation { viewerAccess } }
}";

fn ids(connection: &Value) -> BTreeSet<String> {
    let nodes = connection["nodes"].as_array().into_iter().flatten();
    nodes.map(|node| text(&node["id"])).collect()
}

/// What somebody sees is what the model says; words are found a moment after they were said.
async fn looks(world: &World, person: usize) {
    for word in WORDS {
        let variables = json!({
            "ids": world.things.iter().map(|it| &it.id).collect::<Vec<_>>(), "word": word,
        });
        let client = &world.people[person].client;
        let with_common = |mut seen: BTreeSet<String>| {
            seen.extend(world.common.iter().cloned());
            seen
        };
        let expected = [
            with_common(world.seen(person, |it| !it.is_talk)),
            world.seen(person, |it| !it.is_talk && it.word == word),
            world.seen(person, |it| it.is_talk),
            world.seen(person, |it| it.is_talk && it.word == word),
        ];
        let told = |what: &str| format!("seed {}, person {person}, {word}: {what}", world.seed);
        let seen = until(PATIENCE, &told("words are found"), async || {
            let seen = client.ok(LISTS, variables.clone()).await;
            (ids(&seen["foundTalks"]).len() >= expected[3].len()).then_some(seen)
        })
        .await;
        let lists = ["agents", "foundAgents", "talks", "foundTalks"];
        for (list, expected) in lists.into_iter().zip(&expected) {
            assert_eq!(ids(&seen[list]), *expected, "{}", told(list));
            let count = seen[list]["totalCount"].as_u64();
            assert_eq!(count, Some(expected.len() as u64), "{}", told(list));
        }
        for (node, it) in seen["nodes"]
            .as_array()
            .expect("nodes")
            .iter()
            .zip(&world.things)
        {
            let access = node["viewerAccess"].as_str().unwrap_or_default();
            let expected = ACCESS[world.access(person, it)];
            assert_eq!(access, expected, "{}: {it:?}", told("nodes"));
        }
    }
}

async fn follow(client: &Client) -> Subscription {
    let data = client.ok("{ viewer { cursor } }", json!({})).await;
    let document = "subscription ($after: Cursor) { changes(after: $after, kinds: [AGENT, CONVERSATION]) { id } }";
    let after = json!({ "after": data["viewer"]["cursor"] });
    client.subscribe(document, after).await
}

/// Everything changes once; each who follows is told of what he sees and of nothing else.
async fn hears(world: &World, following: &mut [(usize, Subscription)]) {
    let mut changed = BTreeSet::new();
    for it in &world.things {
        let owner = &world.people[it.owner];
        if owner.is_suspended {
            continue;
        }
        let (mutation, input, wanted) = if it.is_talk {
            let input = json!({ "id": it.id, "title": format!("{} again", it.word) });
            ("updateConversation", input, "conversation { id }")
        } else {
            let input = json!({ "id": it.id, "description": "again" });
            ("updateAgent", input, "agent { id }")
        };
        let done = did(&owner.client, mutation, input, wanted).await;
        done.expect("an owner changes his own");
        changed.insert(it.id.clone());
    }
    let last = json!({ "id": world.common[1], "description": "the end" });
    let done = did(&world.people[0].client, "updateAgent", last, "agent { id }").await;
    done.expect("the last change");
    for (person, subscription) in following {
        let is_last = |event: &Value| event["changes"]["id"] == world.common[1].as_str();
        let told = subscription.until(is_last).await;
        let told: BTreeSet<String> = told
            .iter()
            .map(|event| text(&event["changes"]["id"]))
            .filter(|id| *id != world.common[1])
            .collect();
        let expected = world.seen(*person, |it| changed.contains(&it.id));
        assert_eq!(
            told, expected,
            "seed {}, person {person}: changes",
            world.seed
        );
    }
}

async fn suspend(world: &mut World, person: usize, is_suspended: bool) {
    let input = json!({ "id": world.people[person].id, "isActive": !is_suspended });
    let done = did(
        &world.people[0].client,
        "setUserActive",
        input,
        "user { id }",
    )
    .await;
    done.expect("an owner may");
    world.people[person].is_suspended = is_suspended;
}

async fn lives(seed: u64) {
    let scene = Scene::new().await;
    let mut world = world(&scene, seed).await;
    // Its answers are given; nothing changes by itself from here on.
    for it in world.things.iter().filter(|it| it.is_talk) {
        let document = "query ($id: ID!) { conversation(id: $id) { activeRun { id } } }";
        let client = &world.people[it.owner].client;
        until(PATIENCE, "the answer", async || {
            let seen = client.ok(document, json!({ "id": it.id })).await;
            seen["conversation"]["activeRun"].is_null().then_some(())
        })
        .await;
    }
    let mut following = Vec::new();
    for person in 0..PEOPLE {
        looks(&world, person).await;
        following.push((person, follow(&world.people[person].client).await));
    }
    hears(&world, &mut following).await;

    // One is suspended: nothing is there for him, and what he has open ends.
    let out = 1 + usize::try_from(seed).unwrap_or_default() % (PEOPLE - 1);
    suspend(&mut world, out, true).await;
    let (_, mut his) = following.remove(out);
    while his.next(PATIENCE).await.is_some() {}
    until(PATIENCE, "he is kept out", async || {
        let refused = world.people[out]
            .client
            .query(LISTS, json!({ "ids": [], "word": "heddle" }));
        refused.await.is_err().then_some(())
    })
    .await;
    for (person, _) in &following {
        looks(&world, *person).await;
    }
    hears(&world, &mut following).await;

    // And back again, as he was.
    suspend(&mut world, out, false).await;
    let client = &world.people[out].client;
    until(PATIENCE, "he is let in", async || {
        client
            .query("{ viewer { user { id } } }", json!({}))
            .await
            .ok()
    })
    .await;
    following.push((out, follow(client).await));
    looks(&world, out).await;
    hears(&world, &mut following).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_world_by_chance_is_seen_as_the_rule_says() {
    lives(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn and_another_one() {
    lives(2).await;
}
