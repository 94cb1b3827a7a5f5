//! An installation of its own for each test, on the database that the environment says.

use std::sync::Arc;

use adapters::{
    clock::{ManualClock, SharedClock},
    sealing::{Keyring, Secret},
    tasks::Tasks,
};
use chrono::{DateTime, Utc};
use entities::{
    ApiKeyKind, CommandError, Db, Permissions, Scope, SystemScope, api_key, db::Location, query::*,
};
use events::{Log, LogOptions};
use support::database::{Chosen, Database};
use tempfile::TempDir;

use crate::{
    AuthConfig, Authority, Credential, Identity, NewApiKey, Refresh, RequestContext, SetUp, SignIn,
    SignedIn,
};

pub(crate) const PASSWORD: &str = "weaving-at-night";
pub(crate) const SCOPE: SystemScope = SystemScope::of("tests");

pub(crate) struct House {
    pub(crate) auth: Authority,
    pub(crate) db: Db,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) keyring: Keyring,
    pub(crate) tasks: Tasks,
    log: Log,
    _folder: TempDir,
    _database: Option<Database>,
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
        migration::migrate(db.owner(SCOPE)).await.unwrap();
        let clock = Arc::new(ManualClock::new(
            DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        ));
        let shared: SharedClock = clock.clone();
        let tasks = Tasks::new();
        let log = Log::start(db.clone(), shared, Tasks::new(), LogOptions::default())
            .await
            .unwrap();
        let keyring = Keyring::new([1; 32], None);
        let auth = authority(&db, &log, &keyring, &clock, &tasks);
        Self {
            auth,
            db,
            clock,
            keyring,
            tasks,
            log,
            _folder: folder,
            _database: database,
        }
    }

    /// Another process on the same database.
    pub(crate) fn replica(&self) -> Authority {
        authority(&self.db, &self.log, &self.keyring, &self.clock, &self.tasks)
    }

    pub(crate) async fn set_up(&self) -> SignedIn {
        self.auth
            .set_up(owner(), at_the_machine(), |_, _| Box::pin(async { Ok(()) }))
            .await
            .unwrap()
    }

    /// Ada again, in another session.
    pub(crate) async fn sign_in(&self) -> SignedIn {
        self.try_sign_in(PASSWORD).await.unwrap()
    }

    pub(crate) async fn try_sign_in(&self, password: &str) -> Result<SignedIn, CommandError> {
        let given = SignIn {
            email: owner().email,
            password: Secret::new(password),
            tenant: None,
        };
        self.auth.sign_in(given, at_the_machine()).await
    }

    pub(crate) async fn refresh(&self, token: &Secret) -> Result<SignedIn, CommandError> {
        let given = Refresh {
            refresh_token: token.clone(),
            tenant: None,
        };
        self.auth.refresh_session(given, at_the_machine()).await
    }

    pub(crate) async fn identify(&self, bearer: &str) -> Result<Identity, CommandError> {
        let credential = Credential {
            bearer: Some(bearer),
            ..Credential::default()
        };
        self.auth.identify(credential).await.map(Option::unwrap)
    }
}

fn authority(
    db: &Db,
    log: &Log,
    keyring: &Keyring,
    clock: &Arc<ManualClock>,
    tasks: &Tasks,
) -> Authority {
    let config = AuthConfig {
        issuer: "weft:tests".into(),
        setup_token: None,
        audit_kept: chrono::TimeDelta::days(365),
        signing_key_lasts: chrono::TimeDelta::days(90),
        oidc: None,
    };
    Authority::new(
        db.clone(),
        log.clone(),
        keyring.clone(),
        clock.clone(),
        tasks,
        config,
    )
}

pub(crate) fn owner() -> SetUp {
    SetUp {
        email: "Ada@Example.com".into(),
        password: Secret::new(PASSWORD),
        name: "Ada".into(),
        tenant_name: "Ada's Looms".into(),
        token: None,
    }
}

pub(crate) fn at_the_machine() -> RequestContext {
    RequestContext {
        listener_loopback: true,
        peer_loopback: true,
        origin_ours_or_absent: true,
        address: Some("127.0.0.1".parse().unwrap()),
        ..RequestContext::default()
    }
}

pub(crate) fn personal(
    permissions: Option<Permissions>,
    expires_at: Option<DateTime<Utc>>,
) -> NewApiKey {
    NewApiKey {
        name: "laptop".into(),
        kind: ApiKeyKind::Personal,
        permissions,
        may_impersonate: false,
        may_create_users: false,
        expires_at,
    }
}

pub(crate) async fn a_key(house: &House, scope: &Scope) -> (api_key::Model, Secret) {
    the_key(house, scope, personal(None, None)).await
}

pub(crate) async fn the_key(
    house: &House,
    scope: &Scope,
    new: NewApiKey,
) -> (api_key::Model, Secret) {
    let made = house.auth.create_api_key(scope, new).await.unwrap();
    let row = api_key::Entity::in_tenant(scope)
        .filter(api_key::Column::Id.eq(made.id))
        .one(house.db.reader(SystemScope::of("tests")))
        .await
        .unwrap();
    (row.unwrap(), made.secret.unwrap())
}
