//! Where settings come from: the embedded default, a file, variables; the later goes before the earlier.
//!
//! Knows keys as dotted text (`limits.max_depth`) and values as TOML or a variable's text; what a key means, and whether it is
//! known at all, says [`super::Config`] by taking it.

use std::{collections::BTreeMap, fmt, net::IpAddr, ops::RangeInclusive, path::Path};

use ipnet::IpNet;
use toml::{Table, Value};
use url::Url;

use super::Secret;

/// Why the configuration can't be used, in one line that names the setting.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named by `--config`, or `weft.toml`, can't be read.
    #[error("config file `{file}`: can't be read: {source}")]
    Read {
        /// The file as it was named.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("config file `{file}`, line {line}: {reason}")]
    Syntax {
        /// The file as it was named.
        file: String,
        /// Where, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// Nothing of that name can be set.
    #[error("unknown setting `{key}` ({origin})")]
    Unknown {
        /// Dotted name.
        key: String,
        /// Where it was given.
        origin: Origin,
    },
    /// A value of the wrong type, form or range.
    #[error("setting `{key}` ({origin}): {value} is not {expected}")]
    Invalid {
        /// Dotted name.
        key: String,
        /// Where it was given.
        origin: Origin,
        /// The value as given; hidden where it is a secret.
        value: String,
        /// What it should be.
        expected: String,
    },
    /// A setting that must be given together with another.
    #[error("setting `{key}`: {reason}")]
    Needed {
        /// Dotted name.
        key: String,
        /// Why.
        reason: &'static str,
    },
}

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `config.default.toml`.
    Default,
    /// A file, as it was named.
    File(String),
    /// A variable.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(name) => write!(f, "in {name}"),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

#[derive(Debug, Clone)]
struct Given {
    value: Value,
    origin: Origin,
}

/// The settings given and not yet taken, and what was taken, for printing.
#[derive(Debug, Default)]
pub(super) struct Settings {
    given: BTreeMap<String, Given>,
    /// In the order in which they were taken: `None` where a setting has no value.
    pub(super) shown: Vec<(String, Option<Value>)>,
}

impl Settings {
    pub(super) fn embedded(text: &str) -> Self {
        let mut settings = Self::default();
        let table = text
            .parse()
            .expect("config.default.toml is TOML: a test parses it");
        settings.add_table("", table, &Origin::Default);
        settings
    }

    pub(super) fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            file: file.clone(),
            source,
        })?;
        let table = text.parse::<Table>().map_err(|error| ConfigError::Syntax {
            line: error.span().map_or(1, |span| {
                1 + text[..span.start.min(text.len())].matches('\n').count()
            }),
            reason: error.message().replace('\n', ", "),
            file: file.clone(),
        })?;
        self.add_table("", table, &Origin::File(file));
        Ok(())
    }

    fn add_table(&mut self, prefix: &str, table: Table, origin: &Origin) {
        for (name, value) in table {
            let key = format!("{prefix}{name}");
            match value {
                Value::Table(inner) if !inner.is_empty() => {
                    self.add_table(&format!("{key}."), inner, origin);
                }
                Value::Table(_) => {}
                value => {
                    self.given.insert(
                        key,
                        Given {
                            value,
                            origin: origin.clone(),
                        },
                    );
                }
            }
        }
    }

    /// Adds what begins with `WEFT_`. An empty variable empties a list and is as if unset for everything else, since compose
    /// files pass on variables that nobody set.
    pub(super) fn add_variables(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix("WEFT_") else {
                continue;
            };
            let key = if rest == "LOG" {
                "log.filter".to_owned()
            } else {
                rest.to_ascii_lowercase().replace("__", ".")
            };
            let is_list = matches!(
                self.given.get(&key),
                Some(Given {
                    value: Value::Array(_),
                    ..
                })
            );
            if text.is_empty() && !is_list && self.given.contains_key(&key) {
                continue;
            }
            self.given.insert(
                key,
                Given {
                    value: Value::String(text),
                    origin: Origin::Variable(name),
                },
            );
        }
    }

    /// The first setting that nobody took. An empty variable of a known name without a default was taken by its reader.
    pub(super) fn unknown(&self) -> Option<ConfigError> {
        let (key, given) = self.given.iter().next()?;
        Some(ConfigError::Unknown {
            key: key.clone(),
            origin: given.origin.clone(),
        })
    }

    /// The names in `prefix.NAME.key`.
    pub(super) fn names(&self, prefix: &str) -> Vec<String> {
        let inner = self
            .given
            .keys()
            .filter_map(|key| key.strip_prefix(prefix)?.strip_prefix('.')?.split_once('.'));
        let mut names: Vec<String> = inner.map(|(name, _)| name.to_owned()).collect();
        names.dedup();
        names
    }

    fn take(&mut self, key: &str, shown: impl FnOnce(&Value) -> Value) -> Option<Given> {
        let given = self.given.remove(key).filter(|given| {
            !(matches!(&given.value, Value::String(text) if text.is_empty())
                && matches!(given.origin, Origin::Variable(_)))
        });
        self.shown.push((
            key.to_owned(),
            given.as_ref().map(|given| shown(&given.value)),
        ));
        given
    }

    /// A value read by `read`, which answers `None` for what is not `expected`. `hidden`: the value is a secret.
    fn optional<T>(
        &mut self,
        key: &str,
        hidden: bool,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let show = |value: &Value| if hidden { hide(value) } else { value.clone() };
        let Some(Given { value, origin }) = self.take(key, show) else {
            return Ok(None);
        };
        let answer = value.as_str().and_then(|text| read(text.trim()));
        answer
            .map(Some)
            .ok_or_else(|| invalid(key, origin, &show(&value), expected))
    }

    fn required<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let Some(Given { value, origin }) = self.take(key, Value::clone) else {
            // only if the embedded default lost a key, which its test would tell
            return Err(invalid(
                key,
                Origin::Default,
                &Value::String(String::new()),
                expected,
            ));
        };
        read(&value).ok_or_else(|| invalid(key, origin, &value, expected))
    }

    /// Text for which `read` has a value; there must be a default.
    pub(super) fn text<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        self.required(key, expected, |value| read(value.as_str()?.trim()))
    }

    /// Text that may be left out.
    pub(super) fn maybe<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        self.optional(key, false, expected, read)
    }

    /// A secret, or an address that may hold one, that may be left out: never printed as a whole.
    pub(super) fn secret<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        self.optional(key, true, expected, read)
    }

    pub(super) fn number(
        &mut self,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.required(key, &expected, |value| {
            let number = match value {
                Value::Integer(number) => u64::try_from(*number).ok()?,
                Value::String(text) => text.trim().parse().ok()?,
                _ => return None,
            };
            range.contains(&number).then_some(number)
        })
    }

    pub(super) fn flag(&mut self, key: &str) -> Result<bool, ConfigError> {
        self.required(key, "true or false", |value| match value {
            Value::Boolean(flag) => Some(*flag),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        })
    }

    /// A list, of which each entry is read by `read`; in a variable separated by commas.
    pub(super) fn list<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, ConfigError> {
        let Some(Given { value, origin }) = self.take(key, Value::clone) else {
            return Ok(Vec::new());
        };
        let entries: Option<Vec<&str>> = match &value {
            Value::Array(entries) => entries.iter().map(Value::as_str).collect(),
            Value::String(text) => Some(text.split(',').collect()),
            _ => None,
        };
        let Some(entries) = entries else {
            return Err(invalid(
                key,
                origin,
                &value,
                &format!("a list, each entry {expected}"),
            ));
        };
        let entries = entries
            .iter()
            .map(|entry| entry.trim())
            .filter(|entry| !entry.is_empty());
        entries
            .map(|entry| {
                read(entry)
                    .ok_or_else(|| invalid(key, origin.clone(), &Value::from(entry), expected))
            })
            .collect()
    }
}

fn invalid(key: &str, origin: Origin, value: &Value, expected: &str) -> ConfigError {
    let value: String = value
        .to_string()
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    ConfigError::Invalid {
        key: key.to_owned(),
        origin,
        value,
        expected: expected.to_owned(),
    }
}

/// A secret's place, or an address without its password.
fn hide(value: &Value) -> Value {
    let whole = || Value::from("(hidden)");
    let Some(mut url) = value.as_str().and_then(|text| Url::parse(text).ok()) else {
        return whole();
    };
    if url.scheme() == "sqlite" {
        return value.clone();
    }
    if !url.has_host() {
        return whole();
    }
    if url.password().is_some() && url.set_password(Some("hidden")).is_err() {
        return whole();
    }
    // a password may stand there too: `?password=…`
    if url.query().is_some_and(|query| query.contains("password")) {
        url.set_query(Some("hidden"));
    }
    Value::from(url.as_str())
}

/// A range, or one address as the range of itself.
pub(super) fn network(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| Some(IpNet::from(text.parse::<IpAddr>().ok()?)))
}

/// `host:port`, as written.
pub(super) fn listen_address(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let host_fits = match host.strip_prefix('[') {
        Some(inner) => inner
            .strip_suffix(']')?
            .parse::<std::net::Ipv6Addr>()
            .is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
        }
    };
    (host_fits && port.parse::<u16>().is_ok()).then(|| text.to_owned())
}

/// An http(s) address without user, query and fragment.
pub(super) fn web_address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    (matches!(url.scheme(), "http" | "https") && url.has_host() && plain).then_some(url)
}

/// `scheme://host[:port]`, as browsers send it.
pub(super) fn origin(text: &str) -> Option<String> {
    let url = web_address(text)?;
    (url.path() == "/").then(|| url.origin().ascii_serialization())
}

/// A host's name or address, with or without a port, in lower case.
pub(super) fn host_name(text: &str) -> Option<String> {
    let url = Url::parse(&format!("http://{text}/")).ok()?;
    let plain =
        url.path() == "/" && url.username().is_empty() && !text.contains(['/', '?', '#', '@']);
    plain.then(|| text.trim_end_matches('.').to_ascii_lowercase())
}

/// A provider's address, as it writes it itself: by TLS, or on this machine.
pub(super) fn issuer(text: &str) -> Option<String> {
    let url = web_address(text)?;
    let is_here = match url.host()? {
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
        url::Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
    };
    (url.scheme() == "https" || is_here).then(|| text.to_owned())
}

/// The domain of an e-mail address, in lower case.
pub(super) fn domain(text: &str) -> Option<String> {
    let name = host_name(text)?;
    (!name.contains(':')).then_some(name)
}

/// A scope of OAuth 2 (RFC 6749, 3.3).
pub(super) fn scope(text: &str) -> Option<String> {
    let fits = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    text.bytes().all(fits).then(|| text.to_owned())
}

/// An address with one of the `schemes`, which may hold a password.
pub(super) fn address_with(text: &str, schemes: &[&str]) -> Option<Secret> {
    let (scheme, rest) = text.split_once(':')?;
    let fits = schemes.contains(&scheme) && !rest.is_empty();
    // SQLite's is a path, all others must be addresses
    let parses = scheme == "sqlite" || Url::parse(text).is_ok_and(|url| url.has_host());
    (fits && parses).then(|| Secret::new(text))
}
