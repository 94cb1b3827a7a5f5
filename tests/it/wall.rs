//! PostgreSQL's own wall between tenants: what the server's roles see of a database that it filled, asked past the server. Where the
//! suite runs on SQLite there is no wall to ask.

#![expect(clippy::unwrap_used, reason = "a test that can't go on ends")]

use entities::{
    Db, SystemScope, TenantId, Within, agent, api_key, audit_entry, conversation,
    db::{Failure, Location, failure},
    llm_model, message,
    query::*,
    user,
};
use serde_json::{Value, json};
use support::{
    database::{Chosen, Database},
    provider::Script,
    server::{Exited, Options, Weft},
};

use crate::scene::Scene;

const SYSTEM: SystemScope = SystemScope::of("tests of the wall");

/// A server on PostgreSQL with two tenants, an agent and a conversation in the first; none where the suite runs on SQLite.
async fn scene() -> Option<(Scene, [TenantId; 2])> {
    Chosen::from_environment().is_postgres().then_some(())?;
    let scene = Scene::new().await;
    let tenants = fill(&scene).await;
    Some((scene, tenants))
}

async fn fill(scene: &Scene) -> [TenantId; 2] {
    scene.provider.script("talker", Script::text("Hello."));
    let agent = scene.agent("talker").await;
    let sent = scene.client.send_to_agent(&agent, "Good morning").await;
    assert_eq!(scene.ended(&sent.run).await["status"], "COMPLETED");
    let stranger = scene.stranger().await;
    let ids = async |client: &support::client::Client| {
        let found = client.ok("{ viewer { tenant { id } } }", json!({})).await;
        let id = found["viewer"]["tenant"]["id"].as_str().unwrap().to_owned();
        id.parse::<TenantId>().unwrap()
    };
    [ids(&scene.client).await, ids(&stranger).await]
}

async fn db(url: &str) -> Db {
    Db::connect(&Location::Postgres(url.to_owned()))
        .await
        .unwrap()
}

/// Rows of some tables, asked for without a condition.
async fn seen(db: &Db, within: Within) -> Vec<usize> {
    let tx = db.begin(within).await.unwrap();
    let seen = vec![
        user::Entity::anywhere(SYSTEM)
            .all(&*tx)
            .await
            .unwrap()
            .len(),
        agent::Entity::anywhere(SYSTEM)
            .all(&*tx)
            .await
            .unwrap()
            .len(),
        llm_model::Entity::anywhere(SYSTEM)
            .all(&*tx)
            .await
            .unwrap()
            .len(),
        conversation::Entity::anywhere(SYSTEM)
            .all(&*tx)
            .await
            .unwrap()
            .len(),
        message::Entity::anywhere(SYSTEM)
            .all(&*tx)
            .await
            .unwrap()
            .len(),
        audit_entry::Entity::anywhere(SYSTEM)
            .all(&*tx)
            .await
            .unwrap()
            .len(),
    ];
    tx.rollback().await.unwrap();
    seen
}

#[tokio::test]
async fn a_query_that_forgets_its_tenant_sees_nothing() {
    let Some((scene, [one, other])) = scene().await else {
        return;
    };
    let database = scene.weft.database().unwrap();
    // The suite's login is a superuser, before whom no policy stands unless the role is really changed.
    assert_eq!(
        database
            .sql("select rolsuper from pg_roles where rolname = session_user")
            .await
            .unwrap(),
        "t"
    );
    let db = db(database.url()).await;
    let all = seen(&db, Within::Owner(SYSTEM)).await;
    assert!(all.iter().all(|rows| *rows > 0), "{all:?}");
    assert_eq!(seen(&db, Within::Nowhere).await, [0; 6]);
    // In a tenant it sees that tenant's.
    let [ours, theirs] = [
        seen(&db, Within::Tenant(one)).await,
        seen(&db, Within::Tenant(other)).await,
    ];
    assert_eq!((ours[0], ours[1], ours[3]), (1, 1, 1));
    assert_eq!((theirs[0], theirs[1], theirs[3]), (1, 0, 0));
    assert!(ours[2] > 0 && theirs[2] > 0 && ours[2] + theirs[2] == all[2]);
    // The tenant is the transaction's: the next one on the same connection has none.
    assert_eq!(seen(&db, Within::Nowhere).await, [0; 6]);
    db.close().await;

    // No table at all shows a row, whatever is added later: each that the role may read.
    let tables = database
        .sql(
            "select string_agg(c.oid::regclass::text, ' ') from pg_class c
             where relkind = 'r' and relnamespace = 'public'::regnamespace and has_table_privilege('weft_tenant', c.oid, 'SELECT')",
        )
        .await
        .unwrap();
    assert!(tables.split(' ').count() > 30, "{tables}");
    for table in tables.split(' ') {
        let count = format!("begin; set local role weft_tenant; select count(*) from {table}");
        assert_eq!(database.sql(count).await.unwrap(), "0", "{table}");
    }
    // What is not of tenants is not to be read.
    for table in ["sessions", "identities", "signing_keys", "password_resets"] {
        let read = format!("begin; set local role weft_tenant; select 1 from {table}");
        let refused = database.sql(read).await.unwrap_err().to_string();
        assert!(refused.contains("permission denied"), "{table}: {refused}");
    }
}

#[tokio::test]
async fn nothing_is_written_across_the_wall() {
    let Some((scene, [one, other])) = scene().await else {
        return;
    };
    let db = db(scene.weft.database().unwrap().url()).await;
    // Another's rows are not there to be changed.
    let tx = db.begin(Within::Tenant(other)).await.unwrap();
    let changed = agent::Entity::change_anywhere(SYSTEM)
        .set(agent::ActiveModel {
            name: Set("Taken".into()),
            ..Default::default()
        })
        .exec(&*tx)
        .await
        .unwrap();
    assert_eq!(changed.rows_affected, 0);
    let gone = message::Entity::delete_anywhere(SYSTEM).exec(&*tx).await;
    assert_eq!(gone.unwrap().rows_affected, 0);
    tx.rollback().await.unwrap();

    // Nor can a row be put into another's tenant, or handed over to it.
    let tx = db.begin(Within::Tenant(one)).await.unwrap();
    let row = agent::Entity::anywhere(SYSTEM).one(&*tx).await.unwrap();
    let row = row.unwrap();
    let handed = agent::Entity::change_anywhere(SYSTEM)
        .filter(agent::Column::Id.eq(row.id))
        .set(agent::ActiveModel {
            tenant_id: Set(other),
            ..Default::default()
        })
        .exec(&*tx)
        .await
        .unwrap_err();
    assert!(
        handed.to_string().contains("row-level security"),
        "{handed}"
    );
    tx.rollback().await.unwrap();
    let tx = db.begin(Within::Tenant(other)).await.unwrap();
    let mut copy = row.clone();
    copy.id = uuid::Uuid::now_v7().into();
    let put = agent::Entity::add(&*tx, copy).await.unwrap_err();
    assert!(put.to_string().contains("row-level security"), "{put}");
    tx.rollback().await.unwrap();

    // A tenant's own conversation can't hang on another's agent: the reference is of both columns.
    let tx = db.begin(Within::Tenant(one)).await.unwrap();
    let mut talk = conversation::Entity::anywhere(SYSTEM)
        .one(&*tx)
        .await
        .unwrap()
        .unwrap();
    tx.rollback().await.unwrap();
    talk.id = uuid::Uuid::now_v7().into();
    talk.tenant_id = other;
    let tx = db.begin(Within::Tenant(other)).await.unwrap();
    let hung = async {
        conversation::Entity::add(&*tx, talk).await?;
        tx.commit().await
    };
    let hung = hung.await.unwrap_err();
    assert!(hung.to_string().contains("foreign key"), "{hung}");

    // What was noted stays as it was noted, in either role.
    for within in [Within::Tenant(one), Within::System(SYSTEM)] {
        let tx = db.begin(within).await.unwrap();
        let gone = audit_entry::Entity::delete_anywhere(SYSTEM)
            .exec(&*tx)
            .await;
        let gone = gone.unwrap_err();
        assert!(gone.to_string().contains("permission denied"), "{gone}");
        assert_eq!(failure(&gone), Failure::Permanent);
        tx.rollback().await.unwrap();
        let tx = db.begin(within).await.unwrap();
        let changed = audit_entry::Entity::change_anywhere(SYSTEM)
            .set(audit_entry::ActiveModel {
                action: Set("nothing".into()),
                ..Default::default()
            })
            .exec(&*tx)
            .await;
        let changed = changed.unwrap_err();
        assert!(changed.to_string().contains("permission denied"));
        tx.rollback().await.unwrap();
    }
    db.close().await;
}

#[tokio::test]
async fn a_look_across_the_wall_ends_with_its_statement() {
    let Some((scene, [one, _])) = scene().await else {
        return;
    };
    let db = db(scene.weft.database().unwrap().url()).await;
    let tx = db.begin(Within::Tenant(one)).await.unwrap();
    let all = async || api_key::Entity::anywhere(SYSTEM).all(&*tx).await;
    let everybody = async || user::Entity::anywhere(SYSTEM).all(&tx.system(SYSTEM)).await;
    assert_eq!(everybody().await.unwrap().len(), 2);
    assert_eq!(
        user::Entity::anywhere(SYSTEM)
            .all(&*tx)
            .await
            .unwrap()
            .len(),
        1
    );
    // Also where whoever asked gives up in the middle.
    for pause in 0..40 {
        let waiting = std::time::Duration::from_micros(pause * 25);
        let _given_up = tokio::time::timeout(waiting, everybody()).await;
        let seen = user::Entity::anywhere(SYSTEM).all(&*tx).await.unwrap();
        assert_eq!(seen.len(), 1, "after {waiting:?}");
    }
    assert_eq!(all().await.unwrap().len(), 0);
    tx.rollback().await.unwrap();
    db.close().await;
}

/// What a server says that ends at its start on this database.
async fn refused(url: &str) -> String {
    match Weft::try_start(Options::default().on(url)).await {
        Ok(_) => panic!("it started"),
        Err(Exited { output, .. }) => output,
    }
}

#[tokio::test]
async fn where_the_wall_has_a_hole_the_server_does_not_start() {
    let Some((scene, _)) = scene().await else {
        return;
    };
    scene.weft.stop().await;
    let database = scene.weft.database().unwrap();
    for (hole, mended, says) in [
        (
            "alter table conversations disable row level security",
            "alter table conversations enable row level security",
            "row security of table conversations",
        ),
        (
            "alter table sessions no force row level security",
            "alter table sessions force row level security",
            "row security of table sessions",
        ),
        (
            "alter policy weft_tenant on agents using (true)",
            "alter policy weft_tenant on agents using (tenant_id = nullif(current_setting('weft.tenant', true), '')::uuid)",
            "table agents",
        ),
        (
            "create policy everybody on models using (true)",
            "drop policy everybody on models",
            "table models",
        ),
        (
            "create table notes (tenant_id uuid not null)",
            "drop table notes",
            "row security of table notes",
        ),
    ] {
        database.sql(hole).await.unwrap();
        let output = refused(database.url()).await;
        assert!(output.contains("does not hold tenants apart"), "{output}");
        assert!(output.contains(says), "{hole}: {output}");
        database.sql(mended).await.unwrap();
    }
    let mended = Weft::start(Options::default().on(database.url())).await;
    assert_eq!(mended.client().get("/ready").await.status, 200);
}

/// A login that is no superuser, and a database of its own.
async fn plain_login(may: &str) -> Option<(Database, String, String)> {
    let Chosen::Postgres(cluster) = Chosen::from_environment() else {
        return None;
    };
    let database = Database::create(&cluster).await.unwrap();
    let name = database.url().rsplit('/').next().unwrap().to_owned();
    let login = format!("{name}_login");
    database
        .sql(format!(
            "create role {login} login noinherit nosuperuser nobypassrls {may};
             alter database {name} owner to {login}; alter schema public owner to {login}"
        ))
        .await
        .unwrap();
    let at = database.url().find("://").unwrap() + 3;
    let host = database.url()[at..].rsplit('@').next().unwrap().to_owned();
    let url = format!("{}{login}@{host}", &database.url()[..at]);
    Some((database, login, url))
}

#[tokio::test]
async fn a_plain_user_of_the_database_serves_and_sees_nothing_himself() {
    let Some((database, _, url)) = plain_login("createrole").await else {
        return;
    };
    let scene = Scene::with(Options::default().on(&url)).await;
    let [one, _] = fill(&scene).await;
    let search = scene
        .client
        .ok("{ conversations { totalCount } }", json!({}))
        .await;
    assert_eq!(search["conversations"]["totalCount"], Value::from(1));
    let db = db(&url).await;
    // The tables are his, and their policies hold for him, too; the audit log alone he keeps, as somebody has to take away what is
    // old.
    let own = seen(&db, Within::Owner(SYSTEM)).await;
    assert_eq!(own[..5], [0; 5]);
    assert!(own[5] > 0);
    assert_eq!(seen(&db, Within::Tenant(one)).await[1], 1);
    let tx = db.begin(Within::Owner(SYSTEM)).await.unwrap();
    let old = audit_entry::Entity::delete_anywhere(SYSTEM)
        .exec(&*tx)
        .await;
    assert!(old.unwrap().rows_affected > 0);
    tx.rollback().await.unwrap();
    db.close().await;
    drop(database);
}

#[tokio::test]
async fn a_user_who_may_not_take_the_roles_is_told_what_is_missing() {
    let Some((database, login, url)) = plain_login("nocreaterole").await else {
        return;
    };
    // Whoever came before has made the roles of the cluster.
    let _made = db(database.url()).await;
    let output = refused(&url).await;
    assert!(
        output.contains("create role weft_tenant") && output.contains("grant weft_tenant"),
        "{output}"
    );
    database
        .sql(format!("grant weft_tenant, weft_system to {login}"))
        .await
        .unwrap();
    let weft = Weft::start(Options::default().on(&url)).await;
    assert_eq!(weft.client().get("/ready").await.status, 200);
}
