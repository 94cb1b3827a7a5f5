//! Who sees what, by a model of ten lines: worlds are made by chance, and lists, counts, single rows and what is told of changes have to
//! say what the model says, over the database that `WEFT_TEST_DATABASE` names.

#![expect(clippy::unwrap_used, reason = "a test that can't go on ends")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use entities::{
    Access, AgentId, AgentSpec, AgentVersionId, ConversationId, Db, GroupId, GroupMemberId,
    MembershipId, Permissions, Principal, ResourceKind, Role, Scope, SessionId, ShareId,
    SystemScope, TenantId, UserId, Visibility, agent, agent_version, conversation,
    db::Location,
    group, group_ancestor, group_member, membership,
    page::Page,
    query::*,
    search::{self, terms::Asked},
    share, sharing,
};
use loaders::{
    Reader,
    agents::{AgentFilter, AgentOf, AgentOrder},
    conversations::{ConversationFilter, ConversationOf, ConversationOrder},
    quiesce::quiesce,
};
use support::database::{Chosen, Database};
use uuid::Uuid;

const SYSTEM: SystemScope = SystemScope::of("tests");
const TENANT: TenantId = TenantId(Uuid::from_u128(1));
const USERS: usize = 6;
const GROUPS: usize = 5;
const THINGS: usize = 14;
const WORLDS: u64 = 12;
const WORDS: [&str; 3] = ["shuttle", "heddle", "bobbin"];

/// A small generator (xorshift64*): a failure is told with its seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap() % most
    }

    fn of<T: Copy>(&mut self, some: &[T]) -> T {
        some[self.below(some.len())]
    }
}

const ROLES: [Role; 4] = [Role::Member, Role::Editor, Role::Admin, Role::Owner];
const ACCESSES: [Access; 4] = [Access::Use, Access::Read, Access::Edit, Access::Manage];

#[derive(Debug, Clone, Copy, PartialEq)]
enum With {
    User(usize),
    Group(usize),
    Tenant,
}

#[derive(Debug)]
struct Thing {
    is_talk: bool,
    owner: usize,
    visibility: Visibility,
    group: Option<usize>,
    shares: Vec<(With, Access)>,
}

/// Everything that decides, in plain numbers.
#[derive(Debug)]
struct World {
    roles: Vec<Role>,
    parents: Vec<Option<usize>>,
    members: BTreeMap<(usize, usize), Role>,
    things: Vec<Thing>,
}

impl World {
    fn new(chance: &mut Chance) -> Self {
        let roles = (0..USERS)
            .map(|_| {
                chance.of(&[
                    Role::Member,
                    Role::Member,
                    Role::Editor,
                    Role::Admin,
                    Role::Owner,
                ])
            })
            .collect();
        let parents = (0..GROUPS)
            .map(|group| (group > 0 && chance.below(3) > 0).then(|| chance.below(group)))
            .collect();
        let members = (0..4)
            .map(|_| {
                (
                    (chance.below(GROUPS), chance.below(USERS)),
                    chance.of(&ROLES),
                )
            })
            .collect();
        let things = (0..THINGS).map(|_| Thing::new(chance)).collect();
        Self {
            roles,
            parents,
            members,
            things,
        }
    }

    /// The greatest role that a user has in a group or one around it.
    fn role_in(&self, user: usize, group: usize) -> Option<Role> {
        let own = self.members.get(&(group, user)).copied();
        own.max(self.parents[group].and_then(|parent| self.role_in(user, parent)))
    }

    /// The rule, once more.
    fn access(&self, user: usize, thing: &Thing) -> Option<Access> {
        let reaches = |with: With| match with {
            With::User(one) => one == user,
            With::Group(group) => self.role_in(user, group).is_some(),
            With::Tenant => true,
        };
        let mut most = thing
            .shares
            .iter()
            .filter(|(with, _)| reaches(*with))
            .map(|(_, access)| *access)
            .max();
        let there = thing.group.and_then(|group| self.role_in(user, group));
        most = most.max(
            (thing.visibility == Visibility::Tenant
                || thing.visibility == Visibility::Group && there.is_some())
            .then_some(Access::Read),
        );
        most = most
            .max((there >= Some(Role::Editor)).then_some(Access::Edit))
            .max((there >= Some(Role::Admin)).then_some(Access::Manage));
        most.max(
            (thing.owner == user || !thing.is_talk && self.roles[user] >= Role::Admin)
                .then_some(Access::Manage),
        )
    }
}

impl Thing {
    fn new(chance: &mut Chance) -> Self {
        let is_talk = chance.below(2) == 0;
        let shares = (0..chance.below(3))
            .map(|_| {
                let with = match chance.below(3) {
                    0 => With::User(chance.below(USERS)),
                    1 => With::Group(chance.below(GROUPS)),
                    _ => With::Tenant,
                };
                let access = chance.of(&ACCESSES);
                (
                    with,
                    if is_talk {
                        access.max(Access::Read)
                    } else {
                        access
                    },
                )
            })
            .fold(Vec::new(), |mut shares: Vec<(With, Access)>, share| {
                if !shares.iter().any(|(with, _)| *with == share.0) {
                    shares.push(share);
                }
                shares
            });
        let group = (!is_talk && chance.below(2) == 0).then(|| chance.below(GROUPS));
        let visibility = match is_talk {
            true => Visibility::Private,
            false => chance.of(&[Visibility::Private, Visibility::Group, Visibility::Tenant]),
        };
        Self {
            is_talk,
            owner: chance.below(USERS),
            visibility,
            group,
            shares,
        }
    }
}

fn user(n: usize) -> UserId {
    UserId(Uuid::from_u128(100 + n as u128))
}

fn group(n: usize) -> GroupId {
    GroupId(Uuid::from_u128(200 + n as u128))
}

fn thing(n: usize) -> Uuid {
    Uuid::from_u128(300 + n as u128)
}

/// What a thing can be searched by.
fn word(n: usize) -> &'static str {
    WORDS[n % WORDS.len()]
}

fn now() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

async fn write(world: &World, db: &Db) {
    let tx = db.begin(entities::Within::Owner(SYSTEM)).await.unwrap();
    for (n, role) in world.roles.iter().enumerate() {
        let row = membership::Model {
            id: MembershipId(Uuid::from_u128(400 + n as u128)),
            tenant_id: TENANT,
            user_id: user(n),
            role: *role,
            is_active: true,
            last_used_at: None,
            last_seen_at: None,
            ended_at: None,
            created_at: now(),
            updated_at: now(),
        };
        membership::Entity::add(&*tx, row).await.unwrap();
    }
    for (n, parent) in world.parents.iter().enumerate() {
        let row = group::Model {
            id: group(n),
            tenant_id: TENANT,
            parent_id: parent.map(group),
            name: n.to_string(),
            path: format!("{n} of {parent:?}"),
            description: String::new(),
            created_at: now(),
            updated_at: now(),
        };
        group::Entity::add(&*tx, row).await.unwrap();
        let (mut at, mut distance) = (Some(n), 0);
        while let Some(ancestor) = at {
            let row = group_ancestor::Model {
                tenant_id: TENANT,
                group_id: group(n),
                ancestor_id: group(ancestor),
                distance,
            };
            group_ancestor::Entity::add(&*tx, row).await.unwrap();
            (at, distance) = (world.parents[ancestor], distance + 1);
        }
    }
    for (n, ((in_group, who), role)) in world.members.iter().enumerate() {
        let row = group_member::Model {
            id: GroupMemberId(Uuid::from_u128(500 + n as u128)),
            tenant_id: TENANT,
            group_id: group(*in_group),
            user_id: user(*who),
            role: *role,
            created_at: now(),
            updated_at: now(),
        };
        group_member::Entity::add(&*tx, row).await.unwrap();
    }
    for (n, it) in world.things.iter().enumerate() {
        for (at, (with, access)) in it.shares.iter().enumerate() {
            let row = share::Model {
                id: ShareId(Uuid::from_u128(1000 + (n * 10 + at) as u128)),
                tenant_id: TENANT,
                kind: kind(it),
                resource_id: thing(n),
                user_id: match with {
                    With::User(one) => Some(user(*one)),
                    With::Group(_) | With::Tenant => None,
                },
                group_id: match with {
                    With::Group(one) => Some(group(*one)),
                    With::User(_) | With::Tenant => None,
                },
                with_tenant: *with == With::Tenant,
                access: *access,
                created_at: now(),
            };
            share::Entity::add(&*tx, row).await.unwrap();
        }
        match it.is_talk {
            true => conversation::Entity::add(&*tx, a_talk(n, it))
                .await
                .unwrap(),
            false => {
                let (agent, version) = an_agent(n, it);
                agent::Entity::add(&*tx, agent).await.unwrap();
                agent_version::Entity::add(&*tx, version).await.unwrap();
            }
        }
        sharing::renew(&*tx, TENANT, kind(it), &[thing(n)])
            .await
            .unwrap();
    }
    while search::catch_up(SYSTEM, &tx, 100).await.unwrap() > 0 {}
    tx.commit().await.unwrap();
}

fn kind(it: &Thing) -> ResourceKind {
    match it.is_talk {
        true => ResourceKind::Conversation,
        false => ResourceKind::Agent,
    }
}

fn a_talk(n: usize, it: &Thing) -> conversation::Model {
    conversation::Model {
        reach: None,
        id: ConversationId(thing(n)),
        tenant_id: TENANT,
        owner_id: user(it.owner),
        agent_id: None,
        title: Some(word(n).to_owned()),
        title_by_person: false,
        title_due_at: None,
        title_failures: 0,
        is_indexed: false,
        is_archived: false,
        leaf_id: None,
        last_message_id: None,
        active_run_id: None,
        last_queue_no: 0,
        last_activity_at: now(),
        created_at: now(),
        updated_at: now(),
        deleted_at: None,
    }
}

fn an_agent(n: usize, it: &Thing) -> (agent::Model, agent_version::Model) {
    let spec = AgentSpec {
        instructions: String::new(),
        greeting: None,
        starters: Vec::new(),
        temperature: None,
        max_output_tokens: None,
        max_steps: 1,
    };
    let version_id = AgentVersionId(Uuid::from_u128(2000 + n as u128));
    let agent = agent::Model {
        group_id: it.group.map(group),
        reach: None,
        id: AgentId(thing(n)),
        tenant_id: TENANT,
        owner_id: user(it.owner),
        slug: format!("a-{n}"),
        name: format!("A {n}"),
        description: word(n).to_owned(),
        visibility: it.visibility,
        is_enabled: true,
        draft: spec.clone(),
        draft_model_id: None,
        draft_updated_at: now(),
        version_id,
        uses: 0,
        created_at: now(),
        updated_at: now(),
        deleted_at: None,
    };
    let version = agent_version::Model {
        id: version_id,
        tenant_id: TENANT,
        agent_id: agent.id,
        number: 1,
        name: None,
        notes: None,
        spec,
        model_id: None,
        published_by: agent.owner_id,
        published_at: now(),
    };
    (agent, version)
}

fn scope(world: &World, who: usize) -> Scope {
    let role = world.roles[who];
    let principal = Principal::Session(SessionId(Uuid::from_u128(9)));
    let groups = world.members.iter().filter(|((_, one), _)| *one == who);
    let groups: Vec<_> = groups.map(|((it, _), role)| (group(*it), *role)).collect();
    Scope::new(TENANT, user(who), role, Permissions::of(role), principal)
        .in_groups(Arc::from(groups))
}

fn page() -> Page {
    Page {
        limit: 100,
        ..Page::default()
    }
}

async fn compare(world: &World, db: &Db, (who, seed): (usize, u64), reader: Reader) {
    let scope = scope(world, who);
    let told = |what: &str| format!("seed {seed}, user {who}, {what}: {world:#?}");
    let (mut agents, mut talks) = (BTreeMap::new(), BTreeMap::new());
    for (n, it) in world.things.iter().enumerate() {
        let Some(access) = world.access(who, it) else {
            continue;
        };
        match it.is_talk {
            true => talks.insert(thing(n), access),
            false => agents.insert(thing(n), access),
        };
    }
    let seen = reader
        .agents(page(), AgentOrder::Name, AgentFilter::default())
        .await
        .unwrap();
    let seen: BTreeMap<_, _> = seen
        .rows
        .iter()
        .map(|it| (it.agent.id.0, it.access))
        .collect();
    assert_eq!(seen, agents, "{}", told("list of agents"));
    let count = reader.count_agents(AgentFilter::default()).await.unwrap();
    assert_eq!(
        count,
        Some(agents.len() as u64),
        "{}",
        told("count of agents")
    );
    for order in [
        ConversationOrder::RecentlyActive,
        ConversationOrder::Newest,
        ConversationOrder::Title,
    ] {
        let seen = reader
            .conversations(ConversationFilter::default(), order, page())
            .await
            .unwrap();
        let seen: BTreeSet<_> = seen.rows.iter().map(|row| row.id.0).collect();
        let expected = talks.keys().copied().collect();
        assert_eq!(seen, expected, "{}", told("list of conversations"));
    }
    let count = reader
        .count_conversations(ConversationFilter::default())
        .await
        .unwrap();
    assert_eq!(
        count,
        Some(talks.len() as u64),
        "{}",
        told("count of conversations")
    );
    for word in WORDS {
        let of = |all: &BTreeMap<Uuid, Access>| -> BTreeSet<Uuid> {
            let held = (0..THINGS).filter(|n| self::word(*n) == word).map(thing);
            held.filter(|id| all.contains_key(id)).collect()
        };
        let filter = AgentFilter {
            query: Some(word.to_owned()),
            ..AgentFilter::default()
        };
        let found = reader
            .agents(page(), AgentOrder::Name, filter.clone())
            .await;
        let found: BTreeSet<_> = found.unwrap().rows.iter().map(|it| it.agent.id.0).collect();
        assert_eq!(found, of(&agents), "{}", told("agents by a word"));
        let count = reader.count_agents(filter).await.unwrap();
        assert_eq!(count, Some(found.len() as u64), "{}", told("their count"));
        let filter = || ConversationFilter {
            query: Asked::of(word),
            ..ConversationFilter::default()
        };
        let order = ConversationOrder::RecentlyActive;
        let found = reader.conversations(filter(), order, page()).await.unwrap();
        let found: BTreeSet<_> = found.rows.iter().map(|row| row.id.0).collect();
        assert_eq!(found, of(&talks), "{}", told("conversations by a word"));
        let count = reader.count_conversations(filter()).await.unwrap();
        assert_eq!(count, Some(found.len() as u64), "{}", told("their count"));
    }
    for (n, it) in world.things.iter().enumerate() {
        let (id, expected) = (thing(n), world.access(who, it));
        let (is_there, audience) = match it.is_talk {
            true => {
                let row = reader
                    .load(ConversationOf(ConversationId(id)))
                    .await
                    .unwrap();
                let all = conversation::Entity::in_tenant(&scope);
                let all = all.filter(conversation::Column::Id.eq(id));
                let stored = all.one(db.owner(SYSTEM)).await.unwrap().unwrap();
                (row.is_some(), stored.audience())
            }
            false => {
                let row = reader.load(AgentOf(AgentId(id))).await.unwrap();
                assert_eq!(
                    row.as_ref().map(|it| it.access),
                    expected,
                    "{}",
                    told("one agent")
                );
                let all = agent::Entity::in_tenant(&scope).filter(agent::Column::Id.eq(id));
                let stored = all.one(db.owner(SYSTEM)).await.unwrap().unwrap();
                (row.is_some(), stored.audience())
            }
        };
        assert_eq!(is_there, expected.is_some(), "{}", told("one row"));
        assert_eq!(
            scope.access(kind(it), &audience),
            expected,
            "{}",
            told("access")
        );
        // What changes and events are told by.
        assert_eq!(
            audience.covers(kind(it), &scope),
            expected.is_some(),
            "{}",
            told("a change")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_rows_counts_and_changes_say_what_the_rule_says() {
    for seed in 1..=WORLDS {
        let folder = tempfile::tempdir().unwrap();
        let (location, _database) = match Chosen::from_environment() {
            Chosen::Sqlite => (Location::Sqlite(folder.path().join("weft.db")), None),
            Chosen::Postgres(cluster) => {
                let database = Database::create(&cluster).await.unwrap();
                let at = Location::Postgres(database.url().to_owned());
                (at, Some(database))
            }
        };
        let db = Db::connect(&location).await.unwrap();
        migration::migrate(db.owner(SYSTEM)).await.unwrap();
        let world = World::new(&mut Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1));
        write(&world, &db).await;
        for who in 0..USERS {
            let reader = Reader::new(&db, Some(scope(&world, who)));
            let gate = reader.gate();
            quiesce(gate, compare(&world, &db, (who, seed), reader)).await;
        }
        db.close().await;
    }
}
