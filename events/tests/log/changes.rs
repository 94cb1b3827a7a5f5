//! Notes of what changed become the stream of their tenant: each once, in order, whoever dies.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use adapters::clock::SystemClock;
use entities::{
    Audience, Backend, ChangeAction, CommandError, Permissions, Principal, ResourceKind, Role,
    Scope, SessionId, TenantId, UserId, Visibility, tenant,
};
use events::{Change, FollowError, Log};
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use tokio::time::timeout;
use uuid::Uuid;

use crate::house::{House, PATIENCE, SYSTEM};

fn backend(log: &Log) -> DbBackend {
    match log.db().backend() {
        Backend::Postgres => DbBackend::Postgres,
        Backend::Sqlite => DbBackend::Sqlite,
    }
}

async fn run(log: &Log, sql: &str, values: Vec<Value>) {
    let sql = match log.db().backend() {
        Backend::Postgres => sql.to_owned(),
        Backend::Sqlite => sql.replace('$', "?"),
    };
    let statement = Statement::from_sql_and_values(backend(log), sql, values);
    let tx = log
        .db()
        .begin(entities::Within::Owner(SYSTEM))
        .await
        .unwrap();
    tx.execute_raw(statement).await.unwrap();
    tx.commit().await.unwrap();
}

/// Until no note waits any more.
async fn moved(log: &Log) {
    support::wait::until(PATIENCE, "all notes are moved", async || {
        let sql = Statement::from_string(backend(log), "select 1 from change_outbox limit 1");
        let row = log.db().reader(SYSTEM).query_one_raw(sql).await;
        // One whose connection was ended under it asks again.
        row.is_ok_and(|row| row.is_none()).then_some(())
    })
    .await;
}

async fn tenant(log: &Log) -> TenantId {
    let (id, now) = (TenantId(Uuid::now_v7()), SystemClock::shared().now());
    let row = tenant::Model {
        title_model_id: None,
        retention_days: None,
        max_concurrent_runs: None,
        id,
        slug: id.to_string(),
        name: "Looms".into(),
        currency: "USD".into(),
        is_active: true,
        default_model_id: None,
        data_key: vec![1],
        served_at: now,
        created_at: now,
        updated_at: now,
    };
    let tx = log
        .db()
        .begin(entities::Within::Owner(SYSTEM))
        .await
        .unwrap();
    tenant::Entity::add(&*tx, row).await.unwrap();
    tx.commit().await.unwrap();
    id
}

const OWNER: UserId = UserId(Uuid::from_u128(1));

fn private() -> Audience {
    Audience::owner(OWNER)
}

fn shared() -> Audience {
    Audience::new(OWNER, Visibility::Tenant)
}

async fn change(
    log: &Log,
    tenant: TenantId,
    id: Uuid,
    before: Option<Audience>,
    after: Option<Audience>,
) -> Result<(), CommandError> {
    log.command(entities::Within::Tenant(tenant), move |c| {
        Box::pin(async move {
            c.changed_in(tenant, ResourceKind::Agent, id, before, after);
            Ok(())
        })
    })
    .await
}

fn member(tenant: TenantId) -> Scope {
    Scope::new(
        tenant,
        UserId(Uuid::from_u128(2)),
        Role::Member,
        Permissions::of(Role::Member),
        Principal::Session(SessionId(Uuid::nil())),
    )
}

/// All that the stream of a tenant says after a number.
async fn told(house: &House, tenant: TenantId, after: i64) -> Vec<Change> {
    let page = house.all(tenant.0, after).await;
    let seqs: Vec<i64> = page.records.iter().map(|record| record.seq).collect();
    assert_eq!(seqs, (after + 1..=page.head).collect::<Vec<_>>());
    page.records
        .iter()
        .map(|record| Change::read(record).unwrap().unwrap())
        .collect()
}

/// What somebody has in his list who applies all of it.
fn listed_onto(list: &[Uuid], scope: &Scope, changes: &[Change]) -> Vec<Uuid> {
    let mut list: BTreeSet<Uuid> = list.iter().copied().collect();
    for change in changes {
        match change.action_for(scope) {
            Some(ChangeAction::Deleted) => {
                list.remove(&change.id);
            }
            Some(_) => {
                list.insert(change.id);
            }
            None => {}
        }
    }
    list.into_iter().collect()
}

/// A resource's life: made, shown and hidden again and again, at last shown, hidden or deleted. Answers whether it shows.
async fn live(log: &Log, tenant: TenantId, id: Uuid, number: usize, again: bool) -> bool {
    let last = match number % 3 {
        0 => Some(shared()),
        1 => Some(private()),
        _ => None,
    };
    let mut before = None;
    let steps = (0..20)
        .map(|i| Some(if i % 2 == 0 { shared() } else { private() }))
        .chain([last.clone()]);
    for after in steps {
        while let Err(error) = change(log, tenant, id, before.clone(), after.clone()).await {
            // It may or may not be done; done twice it says the same.
            assert!(again, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        before = after;
    }
    last == Some(shared())
}

async fn lives(house: &House, logs: &[Log], again: bool) {
    let tenants = [
        TenantId(Uuid::now_v7()),
        TenantId(Uuid::now_v7()),
        TenantId(Uuid::now_v7()),
    ];
    let mut going = Vec::new();
    for number in 0..30 {
        let log = logs[number % logs.len()].clone();
        let (tenant, id) = (tenants[number % tenants.len()], Uuid::now_v7());
        going.push(tokio::spawn(async move {
            (tenant, id, live(&log, tenant, id, number / 3, again).await)
        }));
    }
    let mut expected: HashMap<TenantId, Vec<Uuid>> = HashMap::new();
    for life in going {
        let (tenant, id, shows) = life.await.unwrap();
        let list = expected.entry(tenant).or_default();
        if shows {
            list.push(id);
        }
    }
    moved(&house.log).await;
    for (tenant, mut list) in expected {
        list.sort_unstable();
        let changes = told(house, tenant, 0).await;
        assert_eq!(listed_onto(&[], &member(tenant), &changes), list);
        // Who read the list long after his cursor applies some of it twice.
        for after in 0..changes.len() {
            let again = listed_onto(&list, &member(tenant), &changes[after..]);
            assert_eq!(again, list, "after {after}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_commands_become_one_stream() {
    let house = House::new().await;
    let mut logs = vec![house.log.clone()];
    if house.is_postgres() {
        logs.push(house.replica().await);
        logs.push(house.replica().await);
    }
    lives(&house, &logs, false).await;
}

/// Whoever moves notes is cut off at any line: connections are ended under it, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_lose_and_repeat_nothing() {
    let house = House::new().await;
    if !house.is_postgres() {
        return; // There are no connections that break; a process that is killed is tried from outside.
    }
    let logs = [house.log.clone(), house.replica().await];
    let killer = {
        let log = house.log.clone();
        tokio::spawn(async move {
            loop {
                let kill = "select pg_terminate_backend(pid) from pg_stat_activity
                     where datname = current_database() and pid <> pg_backend_pid() and query like '%change_outbox%'";
                let kill = Statement::from_string(DbBackend::Postgres, kill);
                drop(log.db().owner(SYSTEM).query_all_raw(kill).await);
                tokio::time::sleep(Duration::from_millis(35)).await;
            }
        })
    };
    let (stop, stopped) = (killer.abort_handle(), killer);
    let lives = lives(&house, &logs, true);
    let halted = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        stop.abort();
    };
    tokio::join!(lives, halted);
    drop(stopped.await);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_at_once_are_told_as_one() {
    let house = House::new().await;
    let tenant = TenantId(Uuid::now_v7());
    let ids = [Uuid::now_v7(), Uuid::now_v7()];
    let done: Result<(), CommandError> = house
        .log
        .command(entities::Within::Tenant(tenant), move |c| {
            Box::pin(async move {
                let (private, shared) = (Some(private()), Some(shared()));
                c.changed_in(tenant, ResourceKind::Agent, ids[0], None, private.clone());
                c.changed_in(tenant, ResourceKind::Agent, ids[1], None, private.clone());
                c.changed_in(
                    tenant,
                    ResourceKind::Agent,
                    ids[0],
                    private.clone(),
                    shared.clone(),
                );
                c.changed_in(tenant, ResourceKind::Agent, ids[1], private.clone(), None);
                // Nobody saw it: it was made and taken away in one transaction.
                c.changed_in(tenant, ResourceKind::Model, ids[1], None, None);
                Ok(())
            })
        })
        .await;
    done.unwrap();
    moved(&house.log).await;
    let changes = told(&house, tenant, 0).await;
    let ids_told: Vec<Uuid> = changes.iter().map(|change| change.id).collect();
    assert_eq!(ids_told, [ids[0]]);
    let action = changes[0].action_for(&member(tenant));
    assert_eq!(action, Some(ChangeAction::Created));
}

/// What a process leaves that dies right after its COMMIT, in the words of an earlier version too.
#[tokio::test(flavor = "multi_thread")]
async fn notes_that_nobody_told_of_are_found() {
    let house = House::new().await;
    let tenant = TenantId(Uuid::now_v7());
    let json = if house.is_postgres() { "::jsonb" } else { "" };
    let owner = r#"{"owner": "00000000-0000-0000-0000-000000000001"}"#;
    let everybody = r#"{"owner": "00000000-0000-0000-0000-000000000001", "visibility": "TENANT"}"#;
    for (number, audience) in [
        (1, format!(r#"{{"before": {everybody}, "after": {owner}}}"#)),
        (2, "\"what no version wrote\"".to_owned()),
        (3, format!(r#"{{"before": null, "after": {everybody}}}"#)),
    ] {
        let sql = format!(
            "insert into change_outbox (tenant_id, kind, resource_id, action, audience, at) values ($1, 'AGENT', $2, 'UPDATED', $3{json}, $4)"
        );
        let values = vec![
            tenant.into(),
            Uuid::from_u128(number).into(),
            audience.into(),
            SystemClock::shared().now().into(),
        ];
        run(&house.log, &sql, values).await;
    }
    moved(&house.log).await;
    let changes = told(&house, tenant, 0).await;
    let actions: Vec<_> = changes
        .iter()
        .map(|change| change.action_for(&member(tenant)))
        .collect();
    let expected = [
        Some(ChangeAction::Deleted),
        None,
        Some(ChangeAction::Created),
    ];
    assert_eq!(actions, expected);
}

/// Numbers are given before the commit: a smaller one may become visible after a greater one was moved.
#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_is_committed_late_is_not_left_behind() {
    let house = House::new().await;
    if !house.is_postgres() {
        return; // One writer at a time.
    }
    let tenant = TenantId(Uuid::now_v7());
    let (late, early) = (Uuid::now_v7(), Uuid::now_v7());
    let tx = house
        .log
        .db()
        .begin(entities::Within::Owner(SYSTEM))
        .await
        .unwrap();
    let sql = "insert into change_outbox (tenant_id, kind, resource_id, action, audience, at) values ($1, 'AGENT', $2, 'UPDATED', '{}', now())";
    let values = [tenant.into(), late.into()];
    let note = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    tx.execute_raw(note).await.unwrap();
    change(&house.log, tenant, early, None, Some(private()))
        .await
        .unwrap();
    support::wait::until(PATIENCE, "the greater number is moved", async || {
        (house.log.head_of_changes(tenant).await.unwrap() == 1).then_some(())
    })
    .await;
    tx.commit().await.unwrap();
    moved(&house.log).await;
    let ids: Vec<Uuid> = told(&house, tenant, 0)
        .await
        .iter()
        .map(|it| it.id)
        .collect();
    assert_eq!(ids, [early, late]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_forgotten_and_its_cursors_refused() {
    let house = House::new().await;
    let tenant = tenant(&house.log).await;
    assert_eq!(house.log.head_of_changes(tenant).await.unwrap(), 0);
    let mut connected = house.log.follow(tenant.0, 0);
    let make = async |count: usize| {
        let made: Result<(), CommandError> = house
            .log
            .command(entities::Within::Tenant(tenant), move |c| {
                Box::pin(async move {
                    for _ in 0..count {
                        let id = Uuid::now_v7();
                        c.changed_in(tenant, ResourceKind::Agent, id, None, Some(private()));
                    }
                    Ok(())
                })
            })
            .await;
        made.unwrap();
        moved(&house.log).await;
    };
    make(2300).await;
    let first = timeout(PATIENCE, connected.next()).await.unwrap().unwrap();
    assert_eq!(first.seq, 1);
    let now = SystemClock::shared().now();
    make(200).await;
    assert_eq!(house.log.forget_changes(now).await.unwrap(), 2300);
    assert_eq!(house.log.forget_changes(now).await.unwrap(), 0);
    let page = house.all(tenant.0, 0).await;
    assert_eq!(
        (page.floor, page.head, page.records.len()),
        (2300, 2500, 200)
    );
    // A cursor that stands right before what is left is good, one before that is not.
    let mut follow = house.log.follow(tenant.0, 2300);
    let next = timeout(PATIENCE, follow.next()).await.unwrap();
    assert_eq!(next.unwrap().seq, 2301);
    for expired in [2299, 0] {
        let mut follow = house.log.follow(tenant.0, expired);
        let next = timeout(PATIENCE, follow.next()).await.unwrap();
        assert!(matches!(next, Err(FollowError::Expired)), "{expired}");
    }
    // Who is connected and this far behind is told so, once what he had in hand is said.
    let mut last = first.seq;
    let error = loop {
        match timeout(PATIENCE, connected.next()).await.unwrap() {
            Ok(record) => {
                assert_eq!(record.seq, last + 1);
                last = record.seq;
            }
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, FollowError::Expired),
        "{error} after {last}"
    );
    // Nothing is left: the numbers go on.
    let later = SystemClock::shared().now();
    assert_eq!(house.log.forget_changes(later).await.unwrap(), 200);
    make(1).await;
    let page = house.all(tenant.0, 2500).await;
    assert_eq!((page.floor, page.head), (2500, 2501));
}
