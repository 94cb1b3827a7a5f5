//! A tenant with its people, on the database that the suite runs on, for the tests of commands.

use std::sync::Arc;

use adapters::{
    clock::{ManualClock, SharedClock},
    outbound::{Outbound, OutboundConfig},
    sealing::Keyring,
    tasks::Tasks,
};
use auth::{AuthConfig, Authority};
use chrono::DateTime;
use entities::{
    AgentId, CommandError, Db, Permissions, Principal, Refusal, Role, Scope, SessionId,
    SystemScope, TenantId, UserId, agent, agent_version, change, db::Location, llm_model,
    model_fallback, query::*, secret, tenant,
};
use events::{Log, LogOptions};
use providers::Providers;
use support::database::{Chosen, Database};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{Engine, EngineOptions};

pub(crate) const SYSTEM: SystemScope = SystemScope::of("tests");

pub(crate) struct House {
    pub(crate) engine: Engine,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) owner: Scope,
    /// Gone with the house.
    _database: Option<Database>,
    _folder: TempDir,
}

impl House {
    pub(crate) async fn new() -> Self {
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
        let clock = Arc::new(ManualClock::new(
            DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        ));
        let shared: SharedClock = clock.clone();
        let tasks = Tasks::new();
        let log = Log::start(
            db.clone(),
            shared.clone(),
            tasks.clone(),
            LogOptions {
                moves_changes: false,
                ..LogOptions::default()
            },
        )
        .await
        .unwrap();
        let keyring = Keyring::new([1; 32], None);
        let loopback = OutboundConfig {
            allow: vec!["127.0.0.1/32".parse().unwrap()],
            ..OutboundConfig::default()
        };
        let outbound = Outbound::new(loopback).unwrap();
        let providers = Providers::new(outbound.clone(), shared.clone());
        let config = AuthConfig {
            issuer: "weft:tests".into(),
            setup_token: None,
            audit_kept: chrono::TimeDelta::days(365),
            signing_key_lasts: chrono::TimeDelta::days(90),
            oidc: None,
        };
        let authority = Authority::new(db, log.clone(), keyring.clone(), shared, &tasks, config);
        let engine = Engine::new(
            log,
            keyring,
            providers,
            outbound,
            authority,
            EngineOptions::default(),
        );
        let owner = member(Uuid::from_u128(1), 1, Role::Owner);
        let house = Self {
            engine,
            clock,
            owner,
            _database: database,
            _folder: folder,
        };
        house.add_tenant(house.owner.tenant()).await;
        house
    }

    pub(crate) async fn add_tenant(&self, id: TenantId) {
        let now = self.engine.clock().now();
        let (_, data_key) = self.engine.keyring().new_data_key(id.0);
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
            data_key,
            served_at: now,
            created_at: now,
            updated_at: now,
        };
        tenant::Entity::add(self.engine.log().db().owner(SYSTEM), row)
            .await
            .unwrap();
    }

    /// Somebody else of the tenant.
    pub(crate) fn member(&self, number: u128, role: Role) -> Scope {
        member(self.owner.tenant().0, number, role)
    }

    /// The owner of another tenant.
    pub(crate) async fn stranger(&self) -> Scope {
        let scope = member(Uuid::from_u128(2), 1, Role::Owner);
        self.add_tenant(scope.tenant()).await;
        scope
    }

    pub(crate) async fn tenant(&self) -> tenant::Model {
        let snapshot = self.engine.log().snapshot(entities::Within::Owner(SYSTEM));
        let select =
            tenant::Entity::anywhere(SYSTEM).filter(tenant::Column::Id.eq(self.owner.tenant()));
        select
            .one(&**snapshot.tx().await.unwrap())
            .await
            .unwrap()
            .unwrap()
    }

    pub(crate) async fn models(&self) -> Vec<llm_model::Model> {
        let snapshot = self.engine.log().snapshot(entities::Within::Owner(SYSTEM));
        let select = llm_model::Entity::anywhere(SYSTEM).order_by_asc(llm_model::Column::Id);
        select.all(&**snapshot.tx().await.unwrap()).await.unwrap()
    }

    pub(crate) async fn model(&self, id: entities::ModelId) -> llm_model::Model {
        self.models()
            .await
            .into_iter()
            .find(|row| row.id == id)
            .unwrap()
    }

    pub(crate) async fn fallbacks(&self, id: entities::ModelId) -> Vec<entities::ModelId> {
        let snapshot = self.engine.log().snapshot(entities::Within::Owner(SYSTEM));
        let select = model_fallback::Entity::anywhere(SYSTEM)
            .filter(model_fallback::Column::ModelId.eq(id))
            .order_by_asc(model_fallback::Column::Position);
        let rows = select.all(&**snapshot.tx().await.unwrap()).await.unwrap();
        rows.into_iter().map(|row| row.fallback_id).collect()
    }

    pub(crate) async fn secrets(&self) -> Vec<secret::Model> {
        let snapshot = self.engine.log().snapshot(entities::Within::Owner(SYSTEM));
        secret::Entity::anywhere(SYSTEM)
            .all(&**snapshot.tx().await.unwrap())
            .await
            .unwrap()
    }

    pub(crate) async fn agent(&self, id: AgentId) -> agent::Model {
        let snapshot = self.engine.log().snapshot(entities::Within::Owner(SYSTEM));
        let select = agent::Entity::anywhere(SYSTEM).filter(agent::Column::Id.eq(id));
        select
            .one(&**snapshot.tx().await.unwrap())
            .await
            .unwrap()
            .unwrap()
    }

    pub(crate) async fn versions(&self, id: AgentId) -> Vec<agent_version::Model> {
        let snapshot = self.engine.log().snapshot(entities::Within::Owner(SYSTEM));
        let select = agent_version::Entity::anywhere(SYSTEM)
            .filter(agent_version::Column::AgentId.eq(id))
            .order_by_asc(agent_version::Column::Number);
        select.all(&**snapshot.tx().await.unwrap()).await.unwrap()
    }

    /// What was told to `changes`: kind and action, in order.
    pub(crate) async fn changes(&self) -> Vec<String> {
        let snapshot = self.engine.log().snapshot(entities::Within::Owner(SYSTEM));
        let select = change::Entity::anywhere(SYSTEM).order_by_asc(change::Column::Id);
        let rows = select.all(&**snapshot.tx().await.unwrap()).await.unwrap();
        rows.into_iter()
            .map(|row| format!("{:?} {:?}", row.kind, row.action))
            .collect()
    }
}

pub(crate) fn member(tenant: Uuid, number: u128, role: Role) -> Scope {
    let (user, session) = (
        UserId(Uuid::from_u128(number)),
        SessionId(Uuid::from_u128(number)),
    );
    Scope::new(
        TenantId(tenant),
        user,
        role,
        Permissions::of(role),
        Principal::Session(session),
    )
}

/// Refusals as `field: message`, for comparing.
pub(crate) fn said<T: std::fmt::Debug>(answer: Result<T, CommandError>) -> String {
    match answer {
        Ok(value) => format!("done: {value:?}"),
        Err(CommandError::Refused(refusals)) => {
            refusals.iter().map(told).collect::<Vec<_>>().join("; ")
        }
        Err(error) => error.to_string(),
    }
}

fn told(refusal: &Refusal) -> String {
    let (kind, path) = match refusal {
        Refusal::InvalidInput { path, .. } => ("", path),
        Refusal::NotFound { path, .. } => ("", path),
        Refusal::Forbidden { path, .. } => ("", path),
        Refusal::Conflict { path, .. } => ("conflict: ", path),
        Refusal::InUse { path, .. } => ("", path),
        Refusal::LimitReached { path, .. } => ("", path),
    };
    format!("{}: {kind}{refusal}", path[1..].join("."))
}
