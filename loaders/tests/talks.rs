//! Conversations, messages and runs as they are read, over the database that `WEFT_TEST_DATABASE` names.

#![expect(clippy::unwrap_used, reason = "a test that can't go on ends")]

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Duration, Utc};
use entities::{
    AgentId, ConversationId, Db, MessageId, MessageRole, MessageStatus, Part, Parts, Permission,
    Permissions, Principal, Role, RunId, RunStatus, RunTrigger, Scope, SessionId, SystemScope,
    TenantId, Tx, Usage, UserId, agent, agent_version, conversation,
    db::Location,
    message,
    page::{Key, Page},
    run,
    tree::Stop,
};
use loaders::{
    Reader,
    conversations::{
        ConversationCountWith, ConversationFilter, ConversationOf, ConversationOrder,
        ConversationsWith,
    },
    listing::Listing,
    messages::{MessageOf, PathThrough, PathTo, ShownOf, SiblingsOf},
    quiesce::quiesce,
    runs::{NewestRunOf, PlaceInQueueOf, RunCountIn, RunFilter, RunOf, RunsIn},
};
use support::database::{Chosen, Database};
use uuid::Uuid;

const SYSTEM: SystemScope = SystemScope::of("tests");
const TENANT: TenantId = TenantId(Uuid::from_u128(1));
const OWNER: UserId = UserId(Uuid::from_u128(2));
const AGENT: AgentId = AgentId(Uuid::from_u128(3));

struct House {
    db: Db,
    _folder: tempfile::TempDir,
    _database: Option<Database>,
}

impl House {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (location, database) = match Chosen::from_environment() {
            Chosen::Sqlite => (Location::Sqlite(folder.path().join("weft.db")), None),
            Chosen::Postgres(cluster) => {
                let database = Database::create(&cluster).await.unwrap();
                (
                    Location::Postgres(database.url().to_owned()),
                    Some(database),
                )
            }
        };
        let db = Db::connect(&location).await.unwrap();
        migration::migrate(db.owner(SYSTEM)).await.unwrap();
        Self {
            db,
            _folder: folder,
            _database: database,
        }
    }

    async fn write<T>(&self, work: impl AsyncFnOnce(&Tx) -> T) -> T {
        let tx = self
            .db
            .begin(entities::Within::Owner(SYSTEM))
            .await
            .unwrap();
        let value = work(&tx).await;
        tx.commit().await.unwrap();
        value
    }

    fn reader(&self) -> Reader {
        self.reader_of(TENANT, OWNER, Permissions::of(Role::Member))
    }

    fn reader_of(&self, tenant: TenantId, user: UserId, permissions: Permissions) -> Reader {
        let principal = Principal::Session(SessionId(Uuid::from_u128(9)));
        let scope = Scope::new(tenant, user, Role::Member, permissions, principal);
        Reader::new(&self.db, Some(scope))
    }
}

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::minutes(minute)
}

/// The agent of those that have one, with its version.
async fn weaver(tx: &Tx) {
    let row = agent::Model {
        group_id: None,
        reach: None,
        id: AGENT,
        tenant_id: TENANT,
        owner_id: OWNER,
        slug: "a".into(),
        name: "A".into(),
        description: String::new(),
        visibility: entities::Visibility::Tenant,
        is_enabled: true,
        draft: entities::AgentSpec {
            instructions: String::new(),
            greeting: None,
            starters: Vec::new(),
            temperature: None,
            max_output_tokens: None,
            max_steps: 1,
        },
        draft_model_id: None,
        draft_updated_at: at(0),
        version_id: entities::AgentVersionId(Uuid::from_u128(5)),
        uses: 0,
        created_at: at(0),
        updated_at: at(0),
        deleted_at: None,
    };
    let version = agent_version::Model {
        id: row.version_id,
        tenant_id: TENANT,
        agent_id: AGENT,
        number: 1,
        name: None,
        notes: None,
        spec: row.draft.clone(),
        model_id: None,
        published_by: OWNER,
        published_at: at(0),
    };
    agent::Entity::add(&**tx, row).await.unwrap();
    agent_version::Entity::add(&**tx, version).await.unwrap();
}

fn talk(n: u128, agent: Option<AgentId>, title: Option<&str>) -> conversation::Model {
    let minute = i64::try_from(n).unwrap();
    conversation::Model {
        reach: None,
        id: ConversationId(Uuid::from_u128(1000 + n)),
        tenant_id: TENANT,
        owner_id: OWNER,
        agent_id: agent,
        title: title.map(str::to_owned),
        title_by_person: false,
        title_due_at: None,
        title_failures: 0,
        is_indexed: false,
        is_archived: false,
        leaf_id: None,
        last_message_id: None,
        active_run_id: None,
        last_queue_no: 0,
        last_activity_at: at(minute),
        created_at: at(minute),
        updated_at: at(minute),
        deleted_at: None,
    }
}

fn id(n: u128) -> MessageId {
    MessageId(Uuid::from_u128(n))
}

/// `(number, parent, seq, hidden)`; odd numbers are questions.
fn said(talk: ConversationId, (n, parent, seq, is_hidden): Said) -> message::Model {
    let asks = n % 2 == 1;
    message::Model {
        id: id(n),
        tenant_id: TENANT,
        conversation_id: talk,
        seq,
        role: if asks {
            MessageRole::User
        } else {
            MessageRole::Assistant
        },
        status: if is_hidden {
            MessageStatus::Streaming
        } else {
            MessageStatus::Complete
        },
        is_hidden,
        author_id: asks.then_some(OWNER),
        agent_id: None,
        model_id: None,
        parent_id: (parent > 0).then(|| id(parent)),
        run_id: None,
        client_id: None,
        parts: Parts(vec![Part::Text {
            text: n.to_string(),
        }]),
        parts_seq: seq,
        usage: None,
        rating: None,
        rating_comment: None,
        summary: None,
        is_indexed: false,
        removed_at: None,
        created_at: at(seq),
        updated_at: at(seq),
    }
}

type Said = (u128, u128, i64, bool);

fn asked(n: u128, talk: ConversationId, status: RunStatus, queue_no: i64) -> run::Model {
    run::Model {
        id: RunId(Uuid::from_u128(2000 + n)),
        tenant_id: TENANT,
        conversation_id: talk,
        parent_run_id: None,
        agent_id: Some(AGENT),
        agent_version_id: None,
        draft: None,
        asked_model_id: None,
        primary_model_id: None,
        model_id: None,
        status,
        trigger: RunTrigger::Message,
        user_id: OWNER,
        api_key_id: None,
        permissions: Permissions::NONE,
        queue_no,
        input_message_id: None,
        output_message_id: id(1),
        attempt: 0,
        losses: 0,
        losses_in_step: 0,
        owner: None,
        lease_until: None,
        progress_at: None,
        steps: 0,
        error: None,
        usage: Usage::default(),
        first_seq: 0,
        terminal_seq: None,
        format: 1,
        created_at: at(queue_no),
        started_at: None,
        first_token_at: None,
        finished_at: None,
    }
}

fn page(limit: u64) -> Page {
    Page {
        limit,
        ..Page::default()
    }
}

fn numbers(stops: &[Stop]) -> Vec<u128> {
    stops.iter().map(|stop| stop.message.0.as_u128()).collect()
}

/// Two wordings of the first question, the first of them with two answers, and behind its second answer two that wait:
///
/// ```text
/// 1 ─ 2
///   └ 4 ─ 5 ─ 6 (hidden) ─ 7 ─ 8 (hidden)
/// 3 ─ 10
/// ```
const TREE: [Said; 9] = [
    (1, 0, 1, false),
    (2, 1, 2, false),
    (3, 0, 3, false),
    (10, 3, 4, false),
    (4, 1, 5, false),
    (5, 4, 6, false),
    (6, 5, 7, true),
    (7, 6, 8, false),
    (8, 7, 9, true),
];

#[tokio::test]
async fn branches_show_what_began() {
    let house = House::new().await;
    let (mine, other) = (talk(1, None, None), talk(2, None, None));
    let (here, there) = (mine.id, other.id);
    house
        .write(async |tx| {
            conversation::Entity::add_all(&**tx, vec![mine, other])
                .await
                .unwrap();
            let rows = TREE.into_iter().map(|row| said(here, row)).collect();
            message::Entity::add_all(&**tx, rows).await.unwrap();
            message::Entity::add(&**tx, said(there, (11, 0, 1, false)))
                .await
                .unwrap();
        })
        .await;
    let reader = house.reader();
    quiesce(reader.gate(), async {
        // the one last used
        let path = reader.load(PathTo(id(8))).await.unwrap().unwrap();
        assert_eq!(
            (path.conversation, numbers(&path.stops)),
            (here, vec![1, 4, 5, 7])
        );
        assert_eq!(
            path.stops.iter().map(|stop| stop.depth).collect::<Vec<_>>(),
            [0, 1, 2, 4]
        );
        assert_eq!(reader.load(ShownOf(id(8))).await.unwrap(), Some(id(7)));
        assert_eq!(reader.load(ShownOf(id(2))).await.unwrap(), Some(id(2)));

        let through = [
            (1, vec![1, 4, 5, 7]),
            (2, vec![1, 2]),
            (3, vec![3, 10]),
            (5, vec![1, 4, 5, 7]),
            (11, vec![11]),
        ];
        for (message, branch) in through {
            let path = reader
                .load(PathThrough(id(message)))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(numbers(&path.stops), branch, "through {message}");
            assert_eq!(path.conversation, if message == 11 { there } else { here });
        }
        for none in [6, 8, 99] {
            assert_eq!(
                reader.load(PathThrough(id(none))).await.unwrap(),
                None,
                "{none}"
            );
            assert_eq!(
                reader.load(MessageOf(id(none))).await.unwrap(),
                None,
                "{none}"
            );
        }

        let siblings = async |n: u128| -> Vec<u128> {
            let row = reader.load(MessageOf(id(n))).await.unwrap().unwrap();
            let rows = reader.load(SiblingsOf::of(&row)).await.unwrap().unwrap();
            rows.iter().map(|row| row.id.0.as_u128()).collect()
        };
        assert_eq!(siblings(1).await, [1, 3]);
        assert_eq!(siblings(4).await, [2, 4]);
        assert_eq!(siblings(7).await, [7]);
        assert_eq!(siblings(11).await, [11]);
    })
    .await;
}

#[tokio::test]
async fn a_place_on_a_branch_outlives_what_is_taken_out_above_it() {
    let house = House::new().await;
    let mine = talk(1, None, None);
    let here = mine.id;
    house
        .write(async |tx| {
            conversation::Entity::add(&**tx, mine).await.unwrap();
            let rows = TREE.into_iter().map(|row| said(here, row)).collect();
            message::Entity::add_all(&**tx, rows).await.unwrap();
        })
        .await;
    let path = house.reader().load(PathTo(id(8))).await.unwrap().unwrap();
    let place = |depth: i64, n: u128| -> Key { vec![depth.into(), Uuid::from_u128(n).into()] };
    let told = |page: Page| {
        let rows = path.page(&page);
        (numbers(&rows.rows), rows.has_previous, rows.has_next)
    };
    assert_eq!(told(page(2)), (vec![1, 4], false, true));
    assert_eq!(told(page(0)), (vec![], false, true));
    assert_eq!(
        told(Page {
            after: Some(place(1, 4)),
            ..page(9)
        }),
        (vec![5, 7], true, false)
    );
    assert_eq!(
        told(Page {
            backward: true,
            ..page(1)
        }),
        (vec![7], true, false)
    );
    assert_eq!(
        told(Page {
            backward: true,
            before: Some(place(2, 5)),
            ..page(1)
        }),
        (vec![4], true, true)
    );
    // 7 was two deeper once; and 2, on another branch, stands where 4 does
    assert_eq!(
        told(Page {
            before: Some(place(6, 7)),
            ..page(9)
        }),
        (vec![1, 4, 5], false, false)
    );
    assert_eq!(
        told(Page {
            after: Some(place(1, 2)),
            ..page(9)
        }),
        (vec![5, 7], true, false)
    );
    assert_eq!(
        told(Page {
            before: Some(place(1, 2)),
            ..page(9)
        }),
        (vec![1], false, false)
    );
    assert_eq!(
        told(Page {
            after: Some(place(2, 5)),
            before: Some(place(0, 1)),
            ..page(9)
        })
        .0,
        []
    );
}

#[tokio::test]
async fn lists_of_conversations() {
    let house = House::new().await;
    let titles = [Some("b"), None, Some("a"), None, Some("b")];
    let rows: Vec<_> = (1..)
        .zip(titles)
        .map(|(n, title)| {
            let agent = if n == 4 { None } else { Some(AGENT) };
            conversation::Model {
                is_archived: n == 3,
                ..talk(n, agent, title)
            }
        })
        .collect();
    let ids: Vec<ConversationId> = rows.iter().map(|row| row.id).collect();
    let gone = conversation::Model {
        deleted_at: Some(at(0)),
        ..talk(8, Some(AGENT), None)
    };
    let stranger = conversation::Model {
        owner_id: UserId(Uuid::from_u128(77)),
        ..talk(9, Some(AGENT), None)
    };
    house
        .write(async |tx| {
            weaver(tx).await;
            conversation::Entity::add_all(&**tx, rows).await.unwrap();
            conversation::Entity::add_all(&**tx, vec![gone, stranger])
                .await
                .unwrap();
            run::Entity::add(&**tx, asked(1, ids[1], RunStatus::Queued, 1))
                .await
                .unwrap();
        })
        .await;
    let reader = house.reader();
    let told = async |filter: ConversationFilter, order, page: Page| -> Vec<u128> {
        let rows = reader
            .conversations(filter.clone(), order, page)
            .await
            .unwrap();
        rows.rows
            .iter()
            .map(|row| row.id.0.as_u128() - 1000)
            .collect()
    };
    let all = ConversationFilter::default;
    let (active, newest, title) = (
        ConversationOrder::RecentlyActive,
        ConversationOrder::Newest,
        ConversationOrder::Title,
    );
    assert_eq!(told(all(), active, page(9)).await, [5, 4, 3, 2, 1]);
    assert_eq!(
        told(
            all(),
            newest,
            Page {
                backward: true,
                ..page(2)
            }
        )
        .await,
        [2, 1]
    );
    assert_eq!(told(all(), title, page(9)).await, [3, 1, 5, 2, 4]);
    // page by page, in both directions
    let place = |n: u128| -> Key {
        let title = titles[usize::try_from(n - 1).unwrap()];
        let id = Uuid::from_u128(1000 + n);
        vec![
            i64::from(title.is_none()).into(),
            title.unwrap_or_default().into(),
            id.into(),
        ]
    };
    assert_eq!(
        told(
            all(),
            title,
            Page {
                after: Some(place(3)),
                ..page(2)
            }
        )
        .await,
        [1, 5]
    );
    assert_eq!(
        told(
            all(),
            title,
            Page {
                after: Some(place(5)),
                ..page(2)
            }
        )
        .await,
        [2, 4]
    );
    let before = Page {
        before: Some(place(4)),
        backward: true,
        ..page(3)
    };
    assert_eq!(told(all(), title, before).await, [1, 5, 2]);

    let busy = |busy| ConversationFilter {
        is_busy: Some(busy),
        ..all()
    };
    assert_eq!(told(busy(true), active, page(9)).await, [2]);
    assert_eq!(told(busy(false), active, page(9)).await, [5, 4, 3, 1]);
    let archived = ConversationFilter {
        is_archived: Some(true),
        ..all()
    };
    assert_eq!(told(archived, active, page(9)).await, [3]);
    let with = ConversationFilter {
        agent: Some(AGENT),
        ..all()
    };
    assert_eq!(told(with.clone(), active, page(9)).await, [5, 3, 2, 1]);
    assert_eq!(reader.count_conversations(with).await.unwrap(), Some(4));

    // each agent's, in one statement
    let nobody = AgentId(Uuid::from_u128(4));
    let listing = Listing::new(page(2), ());
    let keys = [AGENT, nobody].map(|agent| ConversationsWith {
        agent,
        listing: listing.clone(),
    });
    let found = reader.load_many(keys.clone()).await.unwrap();
    let of = |key| {
        let rows: &entities::page::Rows<Arc<conversation::Model>> = &found[key];
        let numbers: Vec<_> = rows
            .rows
            .iter()
            .map(|row| row.id.0.as_u128() - 1000)
            .collect();
        (numbers, rows.has_next)
    };
    assert_eq!(of(&keys[0]), (vec![5, 3], true));
    assert_eq!(of(&keys[1]), (vec![], false));
    let counts = [AGENT, nobody].map(ConversationCountWith);
    assert_eq!(
        reader.load_many(counts).await.unwrap(),
        HashMap::from([(counts[0], Some(4))])
    );
}

#[tokio::test]
async fn lists_of_runs() {
    let house = House::new().await;
    let talks = [talk(1, Some(AGENT), None), talk(2, Some(AGENT), None)];
    let (here, there) = (talks[0].id, talks[1].id);
    let runs = vec![
        asked(1, here, RunStatus::Completed, 1),
        asked(2, here, RunStatus::Running, 2),
        asked(3, here, RunStatus::Queued, 3),
        asked(4, here, RunStatus::Queued, 4),
        asked(5, there, RunStatus::Queued, 5),
    ];
    let ids: Vec<RunId> = runs.iter().map(|run| run.id).collect();
    house
        .write(async |tx| {
            conversation::Entity::add_all(&**tx, talks.to_vec())
                .await
                .unwrap();
            weaver(tx).await;
            run::Entity::add_all(&**tx, runs).await.unwrap();
        })
        .await;
    let reader = house.reader();
    let ahead = reader
        .load_many(ids.iter().copied().map(PlaceInQueueOf))
        .await
        .unwrap();
    let expected = [(PlaceInQueueOf(ids[2]), 1), (PlaceInQueueOf(ids[3]), 2)];
    assert_eq!(ahead, HashMap::from(expected));
    assert_eq!(
        reader.load(NewestRunOf(AGENT)).await.unwrap().unwrap().id,
        ids[4]
    );

    let told = |rows: &entities::page::Rows<Arc<run::Model>>| -> Vec<u128> {
        rows.rows
            .iter()
            .map(|row| row.id.0.as_u128() - 2000)
            .collect()
    };
    let queued = RunFilter {
        status: Some(vec![RunStatus::Queued]),
        ..RunFilter::default()
    };
    assert_eq!(
        told(&reader.runs(RunFilter::default(), page(9)).await.unwrap()),
        [5, 4, 3, 2, 1]
    );
    assert_eq!(
        told(&reader.runs(queued.clone(), page(9)).await.unwrap()),
        [5, 4, 3]
    );
    let between = RunFilter {
        since: Some(at(2)),
        until: Some(at(4)),
        ..RunFilter::default()
    };
    assert_eq!(told(&reader.runs(between, page(9)).await.unwrap()), [3, 2]);
    assert_eq!(reader.count_runs(queued.clone()).await.unwrap(), Some(3));

    let listing = Listing::new(page(1), queued);
    let keys = [here, there].map(|conversation| RunsIn {
        conversation,
        listing: listing.clone(),
    });
    let found = reader.load_many(keys.clone()).await.unwrap();
    assert_eq!(
        (told(&found[&keys[0]]), found[&keys[0]].has_next),
        (vec![4], true)
    );
    assert_eq!(
        (told(&found[&keys[1]]), found[&keys[1]].has_next),
        (vec![5], false)
    );
    let alone = house.reader().load(keys[0].clone()).await.unwrap().unwrap();
    assert_eq!((told(&alone), alone.has_next), (vec![4], true));
    let counts = [here, there].map(|conversation| RunCountIn {
        conversation,
        listing: listing.clone(),
    });
    let counted = reader.load_many(counts.clone()).await.unwrap();
    assert_eq!(
        (counted[&counts[0]], counted[&counts[1]]),
        (Some(2), Some(1))
    );
}

#[tokio::test]
async fn others_see_nothing() {
    let house = House::new().await;
    let mine = talk(1, Some(AGENT), None);
    let here = mine.id;
    house
        .write(async |tx| {
            weaver(tx).await;
            conversation::Entity::add(&**tx, mine).await.unwrap();
            message::Entity::add(&**tx, said(here, TREE[0]))
                .await
                .unwrap();
            run::Entity::add(&**tx, asked(1, here, RunStatus::Queued, 1))
                .await
                .unwrap();
        })
        .await;
    let member = Permissions::of(Role::Member);
    let strangers = [
        (TenantId(Uuid::from_u128(66)), OWNER, member),
        (
            TENANT,
            UserId(Uuid::from_u128(77)),
            Permissions::of(Role::Owner),
        ),
        (TENANT, OWNER, member.without(Permission::ConversationsUse)),
    ];
    for (tenant, user, permissions) in strangers {
        let reader = house.reader_of(tenant, user, permissions);
        assert_eq!(reader.load(ConversationOf(here)).await.unwrap(), None);
        assert_eq!(reader.load(MessageOf(id(1))).await.unwrap(), None);
        assert_eq!(
            reader
                .load(RunOf(RunId(Uuid::from_u128(2001))))
                .await
                .unwrap(),
            None
        );
        let order = ConversationOrder::Title;
        let rows = reader
            .conversations(ConversationFilter::default(), order, page(9))
            .await;
        assert!(rows.unwrap().rows.is_empty());
        assert!(
            reader
                .runs(RunFilter::default(), page(9))
                .await
                .unwrap()
                .rows
                .is_empty()
        );
        assert_eq!(
            reader.count_runs(RunFilter::default()).await.unwrap(),
            Some(0)
        );
    }
    let reader = Reader::new(&house.db, None);
    assert_eq!(reader.load(ConversationOf(here)).await.unwrap(), None);
}
