//! What an operator can set: one embedded default that is also the documentation, then a file, then `WEFT_…` variables.
//!
//! Every key that a later part will use is known from the start, so that a configuration does not break from one version to the
//! next; a key that is not known is an error, since it is most often a typing mistake.

mod secret;
mod source;

use std::{collections::BTreeMap, fmt::Write as _, path::Path, path::PathBuf, time::Duration};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ipnet::IpNet;
use toml::Value;
use url::Url;

pub use secret::{Secret, SecretKey};
pub use source::ConfigError;
use source::Settings;

/// The default of every setting, with a comment each.
pub const DEFAULT: &str = include_str!("../../config.default.toml");

/// The file that is read where none is named, if it is there.
pub const FILE: &str = "weft.toml";

/// Base64 with or without its padding: keys are copied by hand.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The configuration in force. Field by field what `config.default.toml` says.
#[derive(Debug, Clone)]
pub struct Config {
    /// `host:port` of the server; port 0 takes a free one.
    pub listen: String,
    /// Folder of the embedded backends.
    pub data_dir: PathBuf,
    /// Where people reach the server.
    pub public_url: Option<Url>,
    /// `sqlite:…` or `postgres://…`; `None` is SQLite in `data_dir`.
    pub database_url: Option<Secret>,
    /// `redis://…` or `rediss://…`.
    pub redis_url: Option<Secret>,
    /// `s3://…`.
    pub objects_url: Option<Secret>,
    /// OpenSearch.
    pub search_url: Option<Secret>,
    /// Seals secrets and signs tokens; `None`: made in `data_dir`, never with PostgreSQL.
    pub secret_key: Option<SecretKey>,
    /// The key before, while rotating.
    pub secret_key_previous: Option<SecretKey>,
    /// What `setUp` asks for; `None`: derived from the key.
    pub setup_token: Option<Secret>,
    /// What this process does.
    pub roles: Roles,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// `host` or `host:port`, lower case.
    pub allowed_hosts: Vec<String>,
    /// Origins as browsers send them.
    pub cors_origins: Vec<String>,
    /// Ranges that addresses of those who manage models and tools may reach.
    pub outbound_allow: Vec<IpNet>,
    /// Ranges that addresses chosen by a model or a user may reach.
    pub outbound_allow_tools: Vec<IpNet>,
    /// HTTP proxy for what tenants cause.
    pub outbound_proxy: Option<Secret>,
    /// Whether `/` is a page to try queries on.
    pub graphiql: bool,
    /// Whether clients may read the schema.
    pub introspection: bool,
    /// Bearer token of `/metrics`.
    pub metrics_token: Option<Secret>,
    /// `host:port` for `/metrics` alone.
    pub metrics_listen: Option<String>,
    /// Where traces are sent by OTLP, if no variable of OpenTelemetry's says so.
    pub otlp_endpoint: Option<Secret>,
    /// Where a sign-in by a provider may return to.
    pub redirect_uris: Vec<Url>,
    /// Whether `/auth/token` is served.
    pub token_endpoint: bool,
    /// For how many days a key signs access tokens.
    pub signing_key_days: u32,
    /// Hours that a session lasts that began at a provider.
    pub oidc_session_hours: u32,
    /// Sign-in providers by name.
    pub oidc: BTreeMap<String, Oidc>,
    /// Documents that clients may ask for by their digest, or may only ask for.
    pub trusted_documents: TrustedDocuments,
    /// Limits of what clients may ask.
    pub limits: Limits,
    /// How long logs are kept.
    pub retention: Retention,
    /// What the process says of itself, and the log of events.
    pub log: Log,
    shown: Vec<(String, Option<Value>)>,
}

/// What a process does; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Answers requests.
    pub api: bool,
    /// Carries runs.
    pub worker: bool,
}

/// A sign-in provider.
#[derive(Debug, Clone)]
pub struct Oidc {
    /// As in its discovery document, to the letter.
    pub issuer: String,
    /// Our name there.
    pub client_id: String,
    /// `None` for a public client.
    pub client_secret: Option<Secret>,
    /// What the sign-in page shows; the provider's name where left out.
    pub label: String,
    /// `openid email profile` where left out.
    pub scopes: Vec<String>,
    /// Domains for which this provider is believed, lower case.
    pub email_domains: Vec<String>,
}

/// The table `trusted_documents`.
#[derive(Debug, Clone, Default)]
pub struct TrustedDocuments {
    /// Where they are.
    pub folder: Option<PathBuf>,
    /// What becomes of others.
    pub mode: TrustMode,
}

/// What becomes of documents that are not trusted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TrustMode {
    /// They are answered.
    #[default]
    Off,
    /// They are answered, and their digests logged.
    Log,
    /// They are refused.
    Require,
}

/// Limits of what clients may ask: the table `limits`.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Cost of one request.
    pub max_complexity: usize,
    /// Cost that a credential may use at once.
    pub cost_bucket: u64,
    /// Cost that comes back each second.
    pub cost_restore_per_s: u64,
    /// Cost that an address without a credential may use at once.
    pub address_cost_bucket: u64,
    /// Levels of a query.
    pub max_depth: usize,
    /// Bytes of a document.
    pub max_document_bytes: usize,
    /// Bytes of a request or of a WebSocket message.
    pub max_request_bytes: usize,
    /// Bytes of an answer, or of an event.
    pub max_response_bytes: usize,
    /// Aliases of one field in one place.
    pub max_aliases: usize,
    /// Entries of a page.
    pub max_page_size: usize,
    /// How long a query may take.
    pub query_timeout: Duration,
    /// How long a mutation may take.
    pub mutation_timeout: Duration,
    /// Subscriptions of one WebSocket.
    pub max_subscriptions_per_connection: usize,
    /// WebSockets of one user.
    pub max_connections_per_user: usize,
    /// Characters of a message.
    pub max_message_chars: usize,
    /// Runs at once of one tenant.
    pub max_concurrent_runs: usize,
    /// Tokens of one run.
    pub max_run_tokens: i64,
}

/// How long things are kept, in days.
#[derive(Debug, Clone)]
pub struct Retention {
    /// The stream of a tenant's changes.
    pub changes_days: u32,
    /// The audit log.
    pub audit_days: u32,
}

/// The table `log`.
#[derive(Debug, Clone)]
pub struct Log {
    /// A filter of `tracing-subscriber`.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
    /// From the start of one commit of deltas to the next.
    pub min_gap: Duration,
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// The default, then `file` (or `weft.toml` in the working folder, if it is there), then the `WEFT_` ones of `variables`.
    ///
    /// # Errors
    /// A file that can't be read, an unknown key or variable, a value of the wrong type or range: one line naming the setting.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut settings = Settings::embedded(DEFAULT);
        match file {
            Some(path) => settings.add_file(path)?,
            None if Path::new(FILE).is_file() => settings.add_file(Path::new(FILE))?,
            None => {}
        }
        settings.add_variables(variables);
        Self::read(settings)
    }

    fn read(mut settings: Settings) -> Result<Self, ConfigError> {
        let s = &mut settings;
        const CIDR: &str = "an address or a CIDR range";
        const KEY: &str = "32 bytes in base64";
        const LISTEN: &str = "an address with a port, as in `127.0.0.1:8080`";
        let mut config = Self {
            listen: s.text("listen", LISTEN, source::listen_address)?,
            data_dir: s.text("data_dir", "a folder", |text| {
                (!text.is_empty()).then(|| PathBuf::from(text))
            })?,
            public_url: s.maybe("public_url", "an http(s) address", source::web_address)?,
            database_url: s.secret("database_url", "`sqlite:PATH` or `postgres://…`", |text| {
                source::address_with(text, &["sqlite", "postgres", "postgresql"])
            })?,
            redis_url: s.secret("redis_url", "`redis://…` or `rediss://…`", |text| {
                source::address_with(text, &["redis", "rediss"])
            })?,
            objects_url: s.secret("objects_url", "`s3://bucket/…`", |text| {
                source::address_with(text, &["s3"])
            })?,
            search_url: s.secret("search_url", "an http(s) address", |text| {
                source::address_with(text, &["http", "https"])
            })?,
            secret_key: s.secret("secret_key", KEY, key)?,
            secret_key_previous: s.secret("secret_key_previous", KEY, key)?,
            setup_token: s.secret("setup_token", "a token", |text| Some(Secret::new(text)))?,
            roles: roles(s)?,
            trusted_proxies: s.list("trusted_proxies", CIDR, source::network)?,
            allowed_hosts: s.list(
                "allowed_hosts",
                "a host name, with or without a port",
                source::host_name,
            )?,
            cors_origins: s.list(
                "cors_origins",
                "an origin, as in `https://app.example.com`",
                source::origin,
            )?,
            outbound_allow: s.list("outbound_allow", CIDR, source::network)?,
            outbound_allow_tools: s.list("outbound_allow_tools", CIDR, source::network)?,
            outbound_proxy: s.secret("outbound_proxy", "an http(s) address", |text| {
                source::address_with(text, &["http", "https"])
            })?,
            graphiql: s.flag("graphiql")?,
            introspection: s.flag("introspection")?,
            metrics_token: s.secret("metrics_token", "a token", |text| Some(Secret::new(text)))?,
            metrics_listen: s.maybe("metrics_listen", LISTEN, source::listen_address)?,
            otlp_endpoint: s.secret("otlp_endpoint", "an http(s) address", |text| {
                source::address_with(text, &["http", "https"])
            })?,
            redirect_uris: s.list(
                "auth.redirect_uris",
                "an http(s) address",
                source::web_address,
            )?,
            token_endpoint: s.flag("auth.token_endpoint")?,
            signing_key_days: narrow(s.number("auth.signing_key_days", 1..=3650)?),
            oidc_session_hours: narrow(s.number("auth.oidc_session_hours", 1..=2160)?),
            oidc: oidc(s)?,
            trusted_documents: trusted_documents(s)?,
            limits: limits(s)?,
            retention: Retention {
                changes_days: narrow(s.number("retention.changes_days", 1..=3650)?),
                audit_days: narrow(s.number("retention.audit_days", 1..=36500)?),
            },
            log: Log {
                filter: s.text("log.filter", "a filter", |text| Some(text.to_owned()))?,
                format: s.text("log.format", "text or json", |text| match text {
                    "text" => Some(LogFormat::Text),
                    "json" => Some(LogFormat::Json),
                    _ => None,
                })?,
                min_gap: Duration::from_millis(s.number("log.min_gap_ms", 0..=1000)?),
            },
            shown: Vec::new(),
        };
        if let Some(unknown) = settings.unknown() {
            return Err(unknown);
        }
        config.shown = settings.shown;
        if config.is_postgres() && config.secret_key.is_none() {
            let reason = "must be given with PostgreSQL, the same for every replica";
            return Err(ConfigError::Needed {
                key: "secret_key".to_owned(),
                reason,
            });
        }
        let both = config.roles.api && config.roles.worker;
        if !config.is_postgres() && !both {
            return Err(ConfigError::Needed {
                key: "roles".to_owned(),
                reason: "on SQLite a process is both `api` and `worker`",
            });
        }
        Ok(config)
    }

    /// Whether the database is PostgreSQL, else SQLite.
    pub fn is_postgres(&self) -> bool {
        self.database_url
            .as_ref()
            .is_some_and(|url| url.expose().starts_with("postgres"))
    }

    /// What is in force, as a configuration file, secrets hidden: `weft config`.
    pub fn print(&self) -> String {
        let mut out = String::new();
        let mut table = "";
        for (key, value) in &self.shown {
            let (prefix, name) = key.rsplit_once('.').unwrap_or(("", key));
            if prefix != table {
                table = prefix;
                let _ = writeln!(out, "\n[{table}]");
            }
            let _ = match value {
                Some(value) => writeln!(out, "{name} = {value}"),
                None => writeln!(out, "# {name} is not set"),
            };
        }
        out
    }
}

/// The `WEFT_` variables of the process. Those that are no Unicode come with replacement characters, so that their reader
/// refuses them by name.
pub fn variables() -> Vec<(String, String)> {
    let all = std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value));
    let ours = all.filter(|(name, _)| name.starts_with("WEFT_"));
    ours.map(|(name, value)| (name, value.to_string_lossy().into_owned()))
        .collect()
}

fn key(text: &str) -> Option<SecretKey> {
    BASE64
        .decode(text)
        .ok()?
        .try_into()
        .ok()
        .map(SecretKey::new)
}

fn roles(s: &mut Settings) -> Result<Roles, ConfigError> {
    let names = s.list("roles", "`api` or `worker`", |text| {
        matches!(text, "api" | "worker").then(|| text.to_owned())
    })?;
    let has = |role| names.iter().any(|name| name == role);
    match (has("api"), has("worker")) {
        (false, false) => Err(ConfigError::Needed {
            key: "roles".to_owned(),
            reason: "a process is `api`, `worker` or both",
        }),
        (api, worker) => Ok(Roles { api, worker }),
    }
}

fn oidc(s: &mut Settings) -> Result<BTreeMap<String, Oidc>, ConfigError> {
    let mut providers = BTreeMap::new();
    for name in s.names("oidc") {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
        if !(1..=32).contains(&name.len()) || !name.bytes().all(fits) {
            let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
            return Err(ConfigError::Needed {
                key: format!("oidc.{name}"),
                reason: "the name of a provider, which stands in addresses, must match [a-z0-9_-]{1,32}",
            });
        }
        if name == "password" {
            return Err(ConfigError::Needed {
                key: "oidc.password".to_owned(),
                reason: "`password` is the name of another way to sign in",
            });
        }
        let of = |key: &str| format!("oidc.{name}.{key}");
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let expected = "an https address, or an http one of this machine";
        let issuer = s.maybe(&of("issuer"), expected, source::issuer)?;
        let client_id = s.maybe(&of("client_id"), "a client's name", some)?;
        let (Some(issuer), Some(client_id)) = (issuer, client_id) else {
            return Err(ConfigError::Needed {
                key: format!("oidc.{name}"),
                reason: "a provider needs `issuer` and `client_id`",
            });
        };
        let mut provider = Oidc {
            issuer,
            client_id,
            client_secret: s.secret(&of("client_secret"), "a secret", |text| {
                Some(Secret::new(text))
            })?,
            label: s
                .maybe(&of("label"), "a label", some)?
                .unwrap_or_else(|| name.clone()),
            scopes: s.list(&of("scopes"), "a scope", source::scope)?,
            email_domains: s.list(&of("email_domains"), "a domain", source::domain)?,
        };
        if provider.scopes.is_empty() {
            provider.scopes = ["openid", "email", "profile"].map(str::to_owned).to_vec();
        }
        providers.insert(name, provider);
    }
    Ok(providers)
}

fn trusted_documents(s: &mut Settings) -> Result<TrustedDocuments, ConfigError> {
    let folder = s.maybe("trusted_documents.folder", "a folder", |text| {
        (!text.is_empty()).then(|| PathBuf::from(text))
    })?;
    let expected = "off, log or require";
    let mode = s.text("trusted_documents.mode", expected, |text| match text {
        "off" => Some(TrustMode::Off),
        "log" => Some(TrustMode::Log),
        "require" => Some(TrustMode::Require),
        _ => None,
    })?;
    if folder.is_none() && mode != TrustMode::Off {
        return Err(ConfigError::Needed {
            key: "trusted_documents.folder".to_owned(),
            reason: "must be given where `trusted_documents.mode` is not `off`",
        });
    }
    Ok(TrustedDocuments { folder, mode })
}

fn limits(s: &mut Settings) -> Result<Limits, ConfigError> {
    const MANY: u64 = 1_000_000_000;
    Ok(Limits {
        max_complexity: size(s.number("limits.max_complexity", 1..=MANY)?),
        cost_bucket: s.number("limits.cost_bucket", 1..=MANY)?,
        cost_restore_per_s: s.number("limits.cost_restore_per_s", 1..=MANY)?,
        address_cost_bucket: s.number("limits.address_cost_bucket", 1..=MANY)?,
        max_depth: size(s.number("limits.max_depth", 1..=50)?),
        max_document_bytes: size(s.number("limits.max_document_bytes", 64..=1_048_576)?),
        max_request_bytes: size(s.number("limits.max_request_bytes", 1024..=104_857_600)?),
        max_response_bytes: size(s.number("limits.max_response_bytes", 65_536..=1_073_741_824)?),
        max_aliases: size(s.number("limits.max_aliases", 1..=10_000)?),
        max_page_size: size(s.number("limits.max_page_size", 1..=1000)?),
        query_timeout: Duration::from_millis(s.number("limits.query_timeout_ms", 1..=600_000)?),
        mutation_timeout: Duration::from_millis(
            s.number("limits.mutation_timeout_ms", 1..=600_000)?,
        ),
        max_subscriptions_per_connection: size(
            s.number("limits.max_subscriptions_per_connection", 1..=10_000)?,
        ),
        max_connections_per_user: size(s.number("limits.max_connections_per_user", 1..=10_000)?),
        max_message_chars: size(s.number("limits.max_message_chars", 1..=10_000_000)?),
        max_concurrent_runs: size(s.number("limits.max_concurrent_runs", 1..=1_000_000)?),
        max_run_tokens: s
            .number("limits.max_run_tokens", 1..=MANY)?
            .try_into()
            .unwrap_or(i64::MAX),
    })
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut settings = Settings::embedded(DEFAULT);
        settings.add_variables(
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        Config::read(settings)
    }

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn the_default_is_whole_and_as_documented() {
        let config = load(&[]).unwrap();
        assert_eq!(config.listen, "127.0.0.1:8080");
        assert_eq!(config.limits.max_depth, 15);
        assert_eq!(config.limits.query_timeout, Duration::from_secs(10));
        assert_eq!(config.log.min_gap, Duration::from_millis(10));
        assert!(config.roles.api && config.roles.worker && config.graphiql && config.introspection);
        for (key, _) in &config.shown {
            let name = key.rsplit('.').next().unwrap();
            let documented = |line: &str| {
                line.trim_start_matches("# ")
                    .starts_with(&format!("{name} ="))
            };
            assert!(
                DEFAULT.lines().any(documented),
                "{key} is not in config.default.toml"
            );
        }
    }

    #[test]
    fn variables_go_before_the_file_and_the_file_before_the_default() {
        let folder = std::env::temp_dir().join(format!("weft-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("weft.toml");
        let text = "listen = '127.0.0.1:1'\ndata_dir = 'x'\n[limits]\nmax_depth = 5\n[oidc.corp]\nissuer = 'https://id.example'\n";
        std::fs::write(&file, text).unwrap();
        let variables = [
            ("WEFT_LISTEN", "0.0.0.0:0"),
            ("WEFT_LIMITS__MAX_ALIASES", "7"),
            ("WEFT_LOG", "debug"),
            ("WEFT_TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1"),
            ("WEFT_PUBLIC_URL", ""),
            ("WEFT_OIDC__CORP__CLIENT_ID", "weft"),
            ("HOME", "ignored"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::load(Some(&file), variables).unwrap();
        assert_eq!(
            (
                config.listen.as_str(),
                config.limits.max_depth,
                config.limits.max_aliases
            ),
            ("0.0.0.0:0", 5, 7)
        );
        assert_eq!(config.log.filter, "debug");
        assert_eq!(config.trusted_proxies.len(), 2);
        assert!(config.public_url.is_none());
        let corp = &config.oidc["corp"];
        assert_eq!(corp.label, "corp");
        assert_eq!(corp.issuer, "https://id.example", "to the letter");
        assert_eq!(corp.scopes, ["openid", "email", "profile"]);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_wrong_is_named_in_one_line() {
        let cases: &[(&str, &str, &str)] = &[
            ("WEFT_LISTN", "x", "unknown setting `listn` (WEFT_LISTN)"),
            ("WEFT_LIMITS", "x", "unknown setting `limits` (WEFT_LIMITS)"),
            (
                "WEFT_OIDC__A_B__NOPE",
                "x",
                "setting `oidc.a_b`: a provider needs",
            ),
            (
                "WEFT_OIDC__CORP!__ISSUER",
                "https://id.example",
                "setting `oidc.corp!`: the name of a provider, which stands in addresses, must match",
            ),
            (
                "WEFT_OIDC__CORP__ISSUER",
                "http://id.example",
                "setting `oidc.corp.issuer` (WEFT_OIDC__CORP__ISSUER): \"http://id.example\" is not an https address",
            ),
            (
                "WEFT_OIDC__CORP__ISSUER",
                "https://id.example/?tenant=1",
                "is not an https address",
            ),
            (
                "WEFT_AUTH__REDIRECT_URIS",
                "app.example.com",
                "setting `auth.redirect_uris` (WEFT_AUTH__REDIRECT_URIS): \"app.example.com\" is not an http(s) address",
            ),
            (
                "WEFT_AUTH__OIDC_SESSION_HOURS",
                "0",
                "is not a whole number from 1 to 2160",
            ),
            (
                "WEFT_LISTEN",
                "8080",
                "setting `listen` (WEFT_LISTEN): \"8080\" is not an address with a port",
            ),
            (
                "WEFT_LISTEN",
                "127.0.0.1:99999",
                "is not an address with a port",
            ),
            (
                "WEFT_LIMITS__MAX_DEPTH",
                "many",
                "setting `limits.max_depth` (WEFT_LIMITS__MAX_DEPTH): \"many\" is not a whole number from 1 to 50",
            ),
            (
                "WEFT_LIMITS__MAX_DEPTH",
                "0",
                "is not a whole number from 1 to 50",
            ),
            ("WEFT_LIMITS__MAX_DEPTH", "-1", "is not a whole number"),
            ("WEFT_GRAPHIQL", "yes", "is not true or false"),
            (
                "WEFT_TRUSTED_PROXIES",
                "10.0.0.0/8,nonsense",
                "\"nonsense\" is not an address or a CIDR range",
            ),
            ("WEFT_CORS_ORIGINS", "*", "is not an origin"),
            (
                "WEFT_CORS_ORIGINS",
                "https://a.example/path",
                "is not an origin",
            ),
            (
                "WEFT_PUBLIC_URL",
                "ftp://a.example",
                "is not an http(s) address",
            ),
            (
                "WEFT_PUBLIC_URL",
                "https://user:secret@a.example",
                "is not an http(s) address",
            ),
            (
                "WEFT_SECRET_KEY",
                "c2VjcmV0LXRoYXQtaXMtc2hvcnQ=",
                "\"(hidden)\" is not 32 bytes in base64",
            ),
            (
                "WEFT_DATABASE_URL",
                "mysql://a:geheim@b/c",
                "mysql://a:hidden@b/c\" is not `sqlite:PATH`",
            ),
            (
                "WEFT_DATABASE_URL",
                "postgres://a@b/c",
                "setting `secret_key`: must be given with PostgreSQL",
            ),
            ("WEFT_ROLES", "api", "setting `roles`: on SQLite"),
            ("WEFT_ROLES", "", "setting `roles`: a process is"),
            ("WEFT_LOG__FORMAT", "xml", "is not text or json"),
        ];
        for (name, value, expected) in cases {
            let error = load(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(expected), "{name}={value}: {error}");
            assert!(
                !error.contains('\n') && !error.contains("geheim"),
                "{error}"
            );
        }
        let mut settings = Settings::embedded(DEFAULT);
        assert!(matches!(
            settings.add_file(Path::new("no such file")),
            Err(ConfigError::Read { .. })
        ));
    }

    #[test]
    fn printing_hides_secrets_and_can_be_read_again() {
        let given = [
            ("WEFT_SECRET_KEY", KEY),
            (
                "WEFT_DATABASE_URL",
                "postgres://weft:geheim@db.example/weft?sslpassword=geheim",
            ),
            ("WEFT_METRICS_TOKEN", "geheim-geheim-geheim"),
            ("WEFT_OIDC__CORP__ISSUER", "https://id.example"),
            ("WEFT_OIDC__CORP__CLIENT_ID", "weft"),
            ("WEFT_OIDC__CORP__CLIENT_SECRET", "geheim"),
        ];
        let config = load(&given).unwrap();
        let printed = config.print();
        assert!(
            !printed.contains("geheim") && !printed.contains(KEY),
            "{printed}"
        );
        assert!(!format!("{config:?}").contains("geheim"));
        assert!(
            printed.contains("postgres://weft:hidden@db.example/weft"),
            "{printed}"
        );
        let read: toml::Table = printed.parse().unwrap();
        assert_eq!(read["limits"]["max_depth"].as_integer(), Some(15));
        assert_eq!(read["oidc"]["corp"]["client_id"].as_str(), Some("weft"));
    }
}
