//! The parts of the program, each made of those before it. The only place where implementations meet traits.

use std::{net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use adapters::{
    clock::{SharedClock, SystemClock},
    outbound::{Outbound, OutboundConfig, OutboundError},
    sealing::{Keyring, Secret},
    tasks::Tasks,
};
use auth::{
    AuthConfig, Authority,
    oidc::{OidcConfig, ProviderConfig},
};
use chrono::TimeDelta;
use engine::{Engine, EngineOptions, models::OperatorEnvironment};
use entities::{CommandError, Db, DbErr, SystemScope, db::Location};
use events::{Log, LogError, LogOptions};
use providers::Providers;
use resolvers::{
    FirstContent, Seed,
    identity::{Allowances, RateLimit},
    service::{BusKind, DatabaseKind, ObjectStoreKind, SearchKind, ServiceBackends, ServiceLimits},
};
use sea_orm::sqlx::{self, ConnectOptions, Connection, postgres::PgConnectOptions};
use url::Url;

use crate::{
    budget::Budgets,
    config::{Config, Limits},
    data_dir::{DataDir, FolderError, Lock},
    graph::{AppGraph, Reached, payer},
    serve::reachable,
};

const SCOPE: SystemScope = SystemScope::of("starting the program");

/// Why the program can't start, in one line that names the setting.
#[derive(Debug, thiserror::Error)]
pub enum WiringError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// There is no database to use.
    #[error("setting `database_url`: can't use the database: {0}")]
    Database(#[from] DbErr),
    /// The server doesn't let us in.
    #[error("setting `database_url`: can't reach the database: {0}")]
    Unreachable(String),
    /// A database in memory would be another one for each connection.
    #[error("setting `database_url`: `sqlite:` needs the path of a file")]
    NoFile,
    /// Its own wall between tenants has a hole.
    #[error("setting `database_url`: the database does not hold tenants apart: {0}")]
    Wall(String),
    /// The log can't be used.
    #[error("setting `database_url`: {0}")]
    Log(#[source] LogError),
    /// Something in the database was sealed by another key.
    #[error("setting `secret_key`: it is not the key that this database was sealed with")]
    Key,
    /// The proxy can't be one.
    #[error("setting `outbound_proxy`: {0}")]
    Outbound(#[from] OutboundError),
}

impl From<LogError> for WiringError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Database(error) => Self::Database(error),
            LogError::NotDurable => Self::Log(error),
        }
    }
}

/// Why what the key sealed can't be had.
fn unfitting(error: CommandError) -> WiringError {
    match error {
        CommandError::Database(error) => error.into(),
        error => {
            tracing::debug!(%error, "the key does not fit");
            WiringError::Key
        }
    }
}

/// What can't be made twice: the data folder and the key.
pub struct Ground {
    /// The data folder.
    pub folder: DataDir,
    /// Seals secrets.
    pub keyring: Keyring,
    keys: ([u8; 32], Option<[u8; 32]>),
    location: Location,
    _lock: Option<Lock>,
}

impl Ground {
    /// Takes the data folder, for this process alone where the database is in it.
    ///
    /// # Errors
    /// Of the folder.
    pub fn take(config: &Config) -> Result<Self, WiringError> {
        let folder = DataDir::open(&config.data_dir)?;
        let location = location(config, &folder)?;
        let lock = match location {
            Location::Sqlite(_) => Some(folder.lock()?),
            Location::Postgres(_) => None,
        };
        let given = config.secret_key_previous.as_ref().map(|key| *key.expose());
        let (key, previous) = match &config.secret_key {
            Some(key) => (*key.expose(), given),
            None => {
                let key = folder.secret_key(new_key)?;
                (key, given.or(folder.previous_key(&key)?))
            }
        };
        Ok(Self {
            folder,
            keyring: Keyring::new(key, previous),
            keys: (key, previous),
            location,
            _lock: lock,
        })
    }

    /// The key before the one in use, where there is one: not all may be sealed by the one in use yet.
    pub fn previous_key(&self) -> Option<&[u8; 32]> {
        self.keys.1.as_ref()
    }

    /// Puts a new key in the place of the folder's; what that one sealed still opens.
    ///
    /// # Errors
    /// Of the folder.
    pub fn change_key(&mut self) -> Result<(), WiringError> {
        let (before, _) = self.keys;
        let key = self.folder.change_key(&before, new_key)?;
        self.keyring = Keyring::new(key, Some(before));
        self.keys = (key, Some(before));
        Ok(())
    }

    /// Connects to the database and brings its schema up to date.
    ///
    /// # Errors
    /// It can't be reached or changed, or would not hold tenants apart.
    pub async fn database(&self) -> Result<Db, WiringError> {
        if let Location::Postgres(url) = &self.location {
            reach(url).await?;
        }
        let db = Db::connect(&self.location).await?;
        migration::migrate(db.owner(SCOPE)).await?;
        db.probe_wall().await?.map_err(WiringError::Wall)?;
        Ok(db)
    }
}

fn new_key() -> [u8; 32] {
    let mut bytes = [0; 32];
    SystemClock::shared().random(&mut bytes);
    bytes
}

/// Opens one connection and closes it: a pool would only say that none came in time, not why.
async fn reach(url: &str) -> Result<(), WiringError> {
    let failed = |error: sqlx::Error| WiringError::Unreachable(error.to_string());
    let options = PgConnectOptions::from_str(url).map_err(failed)?;
    let connecting = tokio::time::timeout(REACH, options.connect());
    let connection = connecting
        .await
        .map_err(|_| WiringError::Unreachable("no answer within five seconds".to_owned()))?;
    connection.map_err(failed)?.close().await.map_err(failed)
}

/// How long a server may take to answer at the start.
const REACH: Duration = Duration::from_secs(5);

fn location(config: &Config, folder: &DataDir) -> Result<Location, WiringError> {
    let Some(url) = config
        .database_url
        .as_ref()
        .map(crate::config::Secret::expose)
    else {
        return Ok(Location::Sqlite(folder.file("weft.db")));
    };
    match url.strip_prefix("sqlite:") {
        None => Ok(Location::Postgres(url.to_owned())),
        Some(path) => {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.starts_with(':') {
                return Err(WiringError::NoFile);
            }
            Ok(Location::Sqlite(path.into()))
        }
    }
}

/// The running program.
pub struct App {
    /// The database.
    pub db: Db,
    /// The log.
    pub log: Log,
    /// Who may do what.
    pub authority: Authority,
    /// What carries runs.
    pub engine: Engine,
    backends: ServiceBackends,
    /// What a shutdown waits for before the log is closed, and after.
    tasks: Tasks,
    log_tasks: Tasks,
}

impl App {
    /// Makes all of it; nothing is served before [`App::graph`] is given to the edge. `address` is where the server listens.
    ///
    /// # Errors
    /// See [`WiringError`].
    pub async fn new(
        config: &Config,
        ground: &Ground,
        address: SocketAddr,
    ) -> Result<Self, WiringError> {
        Self::by_clock(SystemClock::shared(), config, ground, address).await
    }

    /// The same, where `clock` says what time it is.
    ///
    /// # Errors
    /// See [`WiringError`].
    pub async fn by_clock(
        clock: SharedClock,
        config: &Config,
        ground: &Ground,
        address: SocketAddr,
    ) -> Result<Self, WiringError> {
        let db = ground.database().await?;
        let (tasks, log_tasks) = (Tasks::new(), Tasks::new());
        let log = Log::start(
            db.clone(),
            clock.clone(),
            log_tasks.clone(),
            LogOptions {
                min_gap: config.log.min_gap,
                changes_kept: Duration::from_secs(
                    u64::from(config.retention.changes_days) * 86_400,
                ),
                ..LogOptions::default()
            },
        )
        .await?;
        let outbound = Outbound::new(outbound(config, address).await)?;
        let auth = AuthConfig {
            issuer: match &config.public_url {
                Some(url) => url.as_str().trim_end_matches('/').to_owned(),
                None => format!("weft:{}", log.installation()),
            },
            setup_token: config
                .setup_token
                .as_ref()
                .map(|token| Secret::new(token.expose())),
            audit_kept: TimeDelta::days(config.retention.audit_days.into()),
            signing_key_lasts: TimeDelta::days(config.signing_key_days.into()),
            oidc: Some(sign_in_providers(config, outbound.clone(), address)),
        };
        // Opens what the key has sealed, and makes it where there is nothing yet.
        let keyring = auth::with_installation_key(&db, &clock, &ground.keyring)
            .await
            .map_err(unfitting)?;
        let authority = Authority::new(
            db.clone(),
            log.clone(),
            keyring.clone(),
            clock,
            &tasks,
            auth,
        );
        authority.jwks().await.map_err(unfitting)?;
        let providers = Providers::new(outbound.clone(), log.clock().clone());
        let options = EngineOptions {
            slots: SLOTS.max(config.limits.max_concurrent_runs.saturating_mul(2)),
            max_concurrent_runs: config.limits.max_concurrent_runs as u64,
            max_run_tokens: config.limits.max_run_tokens,
            works: config.roles.worker,
            max_message_chars: config.limits.max_message_chars,
            titles: true,
        };
        let engine = Engine::new(
            log.clone(),
            keyring,
            providers,
            outbound,
            authority.clone(),
            options,
        );
        engine.start().await?;
        Ok(Self {
            db,
            log,
            authority,
            engine,
            backends: backends(&ground.location, config),
            tasks,
            log_tasks,
        })
    }

    /// The graph that answers, for a server that listens at `address`.
    pub fn graph(&self, config: &Config, address: SocketAddr) -> AppGraph {
        let budgets = Arc::new(Budgets::new(&config.limits));
        let mut builder = schema::build()
            .data(allowances(budgets.clone()))
            .data(self.backends)
            .data(self.authority.clone())
            .data(self.engine.clone())
            .data(first_content(self.engine.clone()))
            .data(limits(&config.limits));
        if !config.introspection {
            // a suggestion would tell names of the schema one by one
            builder = builder.disable_introspection().disable_suggestions();
        }
        let reached = Reached {
            listener_loopback: address.ip().is_loopback(),
            public_url_or_proxies_set: config.public_url.is_some()
                || !config.trusted_proxies.is_empty(),
        };
        AppGraph::new(
            builder.finish(),
            self.db.clone(),
            self.authority.clone(),
            reached,
            &config.limits,
            budgets,
            &self.tasks,
        )
    }

    /// Ends what runs, in the order in which the one needs the other, and closes the database. The edge has ended before.
    pub async fn close(self) {
        let in_time = self.tasks.close(END).await;
        if let Err(error) = self.log.close().await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the log could not be closed in order"
            );
        }
        if !(self.log_tasks.close(END).await && in_time) {
            tracing::warn!("tasks are cut that did not end in time");
        }
        self.db.close().await;
    }
}

/// Runs that a process carries at once; more where the limit of one tenant asks for it. Twice that limit, so that a tenant that has
/// reached it leaves room for the others.
const SLOTS: usize = 2000;

/// How long tasks may take to end once they are told to.
const END: Duration = Duration::from_secs(5);

/// The models that a new installation begins with: the built-in one, and one that the environment gives.
fn first_content(engine: Engine) -> FirstContent {
    FirstContent(Box::new(move || {
        let engine = engine.clone();
        Box::pin(async move {
            let environment = OperatorEnvironment::read(|name| std::env::var(name).ok());
            let found = engine.find_operator_model(&environment).await;
            let seed: Seed = Box::new(move |tx, scope| {
                Box::pin(async move { engine.seed_models(tx, scope, found).await })
            });
            seed
        })
    }))
}

/// Where the guarded client may go. Our own listener and backends are out of bounds, whatever is allowed.
async fn outbound(config: &Config, address: SocketAddr) -> OutboundConfig {
    let mut own_backends = vec![address];
    for url in [&config.database_url, &config.redis_url, &config.search_url]
        .into_iter()
        .flatten()
    {
        let Ok(url) = Url::parse(url.expose()) else {
            continue;
        };
        let port = url.port_or_known_default().or(match url.scheme() {
            "postgres" | "postgresql" => Some(5432),
            "redis" | "rediss" => Some(6379),
            _ => None,
        });
        if let (Some(host), Some(port)) = (url.host_str(), port) {
            let host = host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned();
            own_backends.extend(
                tokio::net::lookup_host((host, port))
                    .await
                    .into_iter()
                    .flatten(),
            );
        }
    }
    OutboundConfig {
        allow: config.outbound_allow.clone(),
        allow_tools: config.outbound_allow_tools.clone(),
        own_backends,
        proxy: config
            .outbound_proxy
            .as_ref()
            .and_then(|url| Url::parse(url.expose()).ok()),
    }
}

/// Where one can sign in, and how it comes back. Links are built from `public_url`, else from where the server listens.
fn sign_in_providers(config: &Config, outbound: Outbound, address: SocketAddr) -> OidcConfig {
    let providers = config.oidc.iter().map(|(name, provider)| ProviderConfig {
        name: name.clone(),
        issuer: provider.issuer.clone(),
        client_id: provider.client_id.clone(),
        client_secret: provider
            .client_secret
            .as_ref()
            .map(|secret| Secret::new(secret.expose())),
        label: provider.label.clone(),
        scopes: provider.scopes.clone(),
        email_domains: provider.email_domains.clone(),
    });
    OidcConfig {
        base_url: match &config.public_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => format!("http://{}", reachable(address)),
        },
        redirect_uris: config.redirect_uris.clone(),
        session_lasts: TimeDelta::hours(config.oidc_session_hours.into()),
        providers: providers.collect(),
        outbound,
    }
}

/// How clients see the buckets. An identity without either would have no bucket, and so nothing left.
fn allowances(budgets: Arc<Budgets>) -> Allowances {
    let int = |number: u64| i32::try_from(number).unwrap_or(i32::MAX);
    Allowances(Box::new(move |identity| {
        let standing = payer(identity).map(|payer| budgets.of(payer));
        RateLimit {
            maximum: int(standing.map_or(0, |standing| standing.maximum)),
            available: int(standing.map_or(0, |standing| standing.available)),
            restore_per_second: int(standing.map_or(0, |standing| standing.restore_per_s)),
        }
    }))
}

/// What is in use, as clients read it.
fn backends(location: &Location, config: &Config) -> ServiceBackends {
    let (database, bus) = match location {
        Location::Sqlite(_) => (DatabaseKind::Sqlite, BusKind::Memory),
        Location::Postgres(_) => (DatabaseKind::Postgres, BusKind::Postgres),
    };
    ServiceBackends {
        database,
        bus,
        objects: match config.objects_url {
            Some(_) => ObjectStoreKind::S3,
            None => ObjectStoreKind::Filesystem,
        },
        search: match config.search_url {
            Some(_) => SearchKind::OpenSearch,
            None => SearchKind::Embedded,
        },
    }
}

/// As clients read them.
fn limits(limits: &Limits) -> ServiceLimits {
    let int = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let ms = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    ServiceLimits {
        max_depth: int(limits.max_depth),
        max_complexity: int(limits.max_complexity),
        max_aliases: int(limits.max_aliases),
        max_page_size: int(limits.max_page_size),
        max_document_bytes: int(limits.max_document_bytes),
        max_request_bytes: int(limits.max_request_bytes),
        max_response_bytes: int(limits.max_response_bytes),
        query_timeout_ms: ms(limits.query_timeout),
        mutation_timeout_ms: ms(limits.mutation_timeout),
        max_subscriptions_per_connection: int(limits.max_subscriptions_per_connection),
        max_connections_per_user: int(limits.max_connections_per_user),
        max_message_chars: int(limits.max_message_chars),
    }
}
