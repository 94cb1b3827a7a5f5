//! Which database the servers under test use, and one of its own for each.
//!
//! `WEFT_TEST_DATABASE` chooses: `sqlite` (the default), or the address of a database of a PostgreSQL cluster from
//! which others may be created. Starting a cluster is not done here. PostgreSQL's own `psql` must be in the path.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};

/// The kind of database that the suite runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// A file in each server's data folder.
    Sqlite,
    /// The cluster that answers at this address.
    Postgres(String),
}

impl Chosen {
    /// As `WEFT_TEST_DATABASE` says.
    ///
    /// # Panics
    ///
    /// When it says something else.
    pub fn from_environment() -> Self {
        match std::env::var("WEFT_TEST_DATABASE") {
            Err(_) => Self::Sqlite,
            Ok(value) if value.is_empty() || value == "sqlite" => Self::Sqlite,
            Ok(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Self::Postgres(url)
            }
            Ok(other) => panic!(
                "WEFT_TEST_DATABASE is neither `sqlite` nor an address of PostgreSQL: {other}"
            ),
        }
    }

    /// Whether it is PostgreSQL.
    pub fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }
}

/// A PostgreSQL database of a test's own, removed when it is dropped.
#[derive(Debug)]
pub struct Database {
    cluster: String,
    url: String,
    name: String,
}

impl Database {
    /// Creates one in the cluster that answers at the address.
    ///
    /// # Errors
    ///
    /// When `psql` is not there or reports one.
    pub async fn create(cluster: &str) -> Result<Self> {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        let name = format!(
            "weft_test_{since}_{}_{}",
            std::process::id(),
            LAST.fetch_add(1, Ordering::Relaxed)
        );
        let database = Self {
            cluster: cluster.to_owned(),
            url: with_name(cluster, &name)?,
            name: name.clone(),
        };
        database
            .ask_cluster(format!("create database {name}"))
            .await?;
        Ok(database)
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its address by way of a proxy.
    ///
    /// # Errors
    ///
    /// When the cluster's address has no host.
    pub fn url_through(&self, proxy: SocketAddr) -> Result<String> {
        let at = authority(&self.url)?;
        Ok(format!(
            "{}{proxy}{}",
            &self.url[..at.start],
            &self.url[at.end..]
        ))
    }

    /// Where the cluster listens, to put a proxy before it.
    ///
    /// # Errors
    ///
    /// When its address doesn't resolve.
    pub async fn address(&self) -> Result<SocketAddr> {
        let host = &self.url[authority(&self.url)?];
        let host = if host.contains(':') {
            host.to_owned()
        } else {
            format!("{host}:5432")
        };
        let mut addresses = tokio::net::lookup_host(&host)
            .await
            .with_context(|| format!("{host} doesn't resolve"))?;
        addresses
            .next()
            .with_context(|| format!("{host} has no address"))
    }

    /// Runs SQL in it, as the cluster's superuser, past everything that the product does; answers the rows, values
    /// separated by `|`.
    ///
    /// # Errors
    ///
    /// What `psql` reports.
    pub async fn sql(&self, sql: impl Into<String>) -> Result<String> {
        ask(self.url.clone(), sql.into()).await
    }

    async fn ask_cluster(&self, sql: String) -> Result<String> {
        ask(self.cluster.clone(), sql).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("drop database if exists {} with (force)", self.name);
        // Not waited for: a test that is over has nothing to do with what is left of it.
        let _child = psql(&self.cluster, &sql)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
    }
}

fn psql(url: &str, sql: &str) -> Command {
    let mut command = Command::new("psql");
    command.args([
        "--no-psqlrc",
        "--quiet",
        "--tuples-only",
        "--no-align",
        "--set=ON_ERROR_STOP=1",
        "--dbname",
    ]);
    command.args([url, "--command", sql]).stdin(Stdio::null());
    command
}

async fn ask(url: String, sql: String) -> Result<String> {
    let output = tokio::task::spawn_blocking(move || psql(&url, &sql).output())
        .await?
        .context("psql can't be run")?;
    ensure!(
        output.status.success(),
        "psql: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// The address of another database of the same cluster.
fn with_name(cluster: &str, name: &str) -> Result<String> {
    let end = authority(cluster)?.end;
    let query = cluster[end..]
        .find('?')
        .map_or("", |at| &cluster[end + at..]);
    Ok(format!("{}/{name}{query}", &cluster[..end]))
}

/// Where host and port stand in an address.
fn authority(url: &str) -> Result<std::ops::Range<usize>> {
    let start = url.find("://").context("not an address")? + 3;
    let end = url[start..]
        .find(['/', '?'])
        .map_or(url.len(), |at| start + at);
    let start = url[start..end]
        .rfind('@')
        .map_or(start, |at| start + at + 1);
    if start == end {
        bail!("an address without a host: {url}");
    }
    Ok(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        proxy::Proxy,
        wait::{PATIENCE, within},
    };

    #[test]
    fn addresses_are_taken_apart() {
        let cluster = "postgres://weft:se@cret@127.0.0.1:5433/postgres?sslmode=disable";
        let database = Database {
            cluster: "postgres://".into(),
            url: with_name(cluster, "one").unwrap(),
            name: "one".into(),
        };
        assert_eq!(
            database.url(),
            "postgres://weft:se@cret@127.0.0.1:5433/one?sslmode=disable"
        );
        let through = database.url_through(([127, 0, 0, 1], 99).into()).unwrap();
        assert_eq!(
            through,
            "postgres://weft:se@cret@127.0.0.1:99/one?sslmode=disable"
        );
        assert_eq!(with_name("postgres://h", "n").unwrap(), "postgres://h/n");
        assert!(with_name("postgres:///x", "n").is_err());
        // It was never created.
        std::mem::forget(database);
    }

    #[tokio::test]
    async fn each_has_one_of_its_own() {
        // Where the suite runs on SQLite there is no cluster to create one in.
        let Chosen::Postgres(cluster) = Chosen::from_environment() else {
            return;
        };
        let one = Database::create(&cluster).await.unwrap();
        let two = Database::create(&cluster).await.unwrap();
        one.sql("create table only_here (n int); insert into only_here values (7)")
            .await
            .unwrap();
        assert_eq!(
            one.sql("select n, n + 1 from only_here").await.unwrap(),
            "7|8"
        );
        assert!(
            two.sql("select n from only_here")
                .await
                .unwrap_err()
                .to_string()
                .contains("only_here")
        );
    }

    #[tokio::test]
    async fn a_commit_can_lose_its_answer() {
        let Chosen::Postgres(cluster) = Chosen::from_environment() else {
            return;
        };
        let database = Database::create(&cluster).await.unwrap();
        database.sql("create table told (n int)").await.unwrap();
        let proxy = Proxy::start(database.address().await.unwrap()).await;
        let url = database.url_through(proxy.address()).unwrap();
        ask(url.clone(), "insert into told values (1)".to_owned())
            .await
            .unwrap();
        proxy.lose_answer_to("COMMIT");
        let broken = ask(url, "BEGIN; insert into told values (2); COMMIT".to_owned()).await;
        assert!(broken.unwrap_err().to_string().contains("connection"));
        within(PATIENCE, "the loss", proxy.until_lost(1)).await;
        assert_eq!(
            database.sql("select count(*) from told").await.unwrap(),
            "2"
        );
    }
}
