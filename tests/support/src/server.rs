//! The server under test, as a process: started, stopped, killed, paused, and started again.
//!
//! `WEFT_BIN` is the binary; left out, `weft` beside the folder of the test's own executable (`target/debug/weft`).

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    client::Client,
    database::{Chosen, Database},
    lock,
    wait::until,
};

/// What seals secrets where it must be given: 32 bytes in base64, the same for all replicas of a test.
pub const SECRET_KEY: &str = "d2VmdC10ZXN0LWtleS13ZWZ0LXRlc3Qta2V5LTAwMDE=";

/// How long a server may take to be ready, and to end when it is asked to. Generous, as many start side by side.
const READY: Duration = Duration::from_secs(60);
const GONE: Duration = Duration::from_secs(60);

/// How long one look at `/ready` may take.
const LOOK: Duration = Duration::from_secs(5);

/// How much of a server's output is shown when a test fails, in bytes.
const SHOWN: u64 = 32 * 1024;

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Variables of its environment, beside, or in place of, those that every test's server has.
    pub environment: Vec<(String, String)>,
    /// A database instead of one of its own.
    pub database_url: Option<String>,
}

impl Options {
    /// With another variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// With a database of this address instead of one of its own: one that a proxy stands before.
    #[must_use]
    pub fn on(mut self, database_url: &str) -> Self {
        self.database_url = Some(database_url.to_owned());
        self
    }
}

/// A server that ended instead of serving.
#[derive(Debug)]
pub struct Exited {
    /// How.
    pub status: ExitStatus,
    /// What it had said, standard output and error together.
    pub output: String,
}

/// A server, running unless it was ended. Killed when it is dropped; its output is shown if the test has failed.
pub struct Weft {
    folder: TempDir,
    options: Options,
    database: Option<Arc<Database>>,
    url: Option<String>,
    address: SocketAddr,
    child: Mutex<Option<Child>>,
}

impl Weft {
    /// Starts one in an empty folder, on a free port, with a database of its own, and waits until it is ready.
    ///
    /// # Panics
    ///
    /// With its output when it doesn't get ready.
    pub async fn start(options: Options) -> Self {
        match Self::try_start(options).await {
            Ok(weft) => weft,
            Err(Exited { status, output }) => {
                panic!("weft ended at its start ({status}):\n{output}")
            }
        }
    }

    /// Starts one as [`Weft::start`], when a test is about whether it starts.
    ///
    /// # Errors
    ///
    /// How it ended, and what it said.
    ///
    /// # Panics
    ///
    /// When there is no binary or no database, or when it neither gets ready nor ends.
    pub async fn try_start(options: Options) -> Result<Self, Exited> {
        let database = match (&options.database_url, Chosen::from_environment()) {
            (None, Chosen::Postgres(cluster)) => Some(Arc::new(
                Database::create(&cluster)
                    .await
                    .expect("a database of the test's own"),
            )),
            _ => None,
        };
        let url = options
            .database_url
            .clone()
            .or(database.as_ref().map(|database| database.url().to_owned()));
        Self::launch(options, database, url).await
    }

    /// Starts another one on the same database; it has a folder and an address of its own.
    ///
    /// # Panics
    ///
    /// When the first one is on SQLite, which only one process may use; else as [`Weft::start`].
    pub async fn replica_of(first: &Self) -> Self {
        Self::replica_with(first, first.options.clone()).await
    }

    /// Starts another one on the same database, with options of its own.
    ///
    /// # Panics
    ///
    /// As [`Weft::replica_of`].
    pub async fn replica_with(first: &Self, options: Options) -> Self {
        assert!(first.url.is_some(), "replicas need PostgreSQL");
        let url = options.database_url.clone().or(first.url.clone());
        match Self::launch(options, first.database.clone(), url).await {
            Ok(weft) => weft,
            Err(Exited { status, output }) => {
                panic!("a replica ended at its start ({status}):\n{output}")
            }
        }
    }

    async fn launch(
        options: Options,
        database: Option<Arc<Database>>,
        url: Option<String>,
    ) -> Result<Self, Exited> {
        let folder = tempfile::Builder::new()
            .prefix("weft-test-")
            .tempdir()
            .expect("a temporary folder");
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut weft = Self {
            folder,
            options,
            database,
            url,
            address,
            child: Mutex::new(None),
        };
        weft.spawn();
        weft.get_ready().await?;
        Ok(weft)
    }

    fn spawn(&mut self) {
        // What a killed one has left would be taken for the address of this one.
        let _absent = std::fs::remove_file(self.address_file());
        let log = || {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(self.log_file())
        };
        let log = log()
            .and_then(|one| Ok((one, log()?)))
            .expect("a file for the output");
        let mut command = command(self.folder.path());
        command
            .env("WEFT_LISTEN", self.address.to_string())
            .stdin(Stdio::null())
            .stdout(log.0)
            .stderr(log.1);
        if let Some(url) = &self.url {
            command
                .env("WEFT_DATABASE_URL", url)
                .env("WEFT_SECRET_KEY", SECRET_KEY);
        }
        command.envs(
            self.options
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        );
        let child = command.spawn();
        let child = child
            .unwrap_or_else(|error| panic!("{} can't be started: {error}", binary().display()));
        *lock(&self.child) = Some(child);
    }

    /// Waits until it says where it listens and answers there.
    async fn get_ready(&mut self) -> Result<(), Exited> {
        let this = &*self;
        let address = until(READY, "weft to be ready", || async move {
            if let Some(status) = this.exit_status() {
                return Some(Err(Exited {
                    status,
                    output: this.output(),
                }));
            }
            let address = std::fs::read_to_string(this.address_file())
                .ok()
                .and_then(|text| parsed(&text))?;
            is_ready(address).await.then_some(Ok(address))
        })
        .await?;
        self.address = address;
        Ok(())
    }

    /// Where it listens. The same after a restart.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base address: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Somebody who uses it, without a credential.
    pub fn client(&self) -> Client {
        Client::new(&self.url())
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("weft-data")
    }

    /// Its database, where it is on PostgreSQL and has one of its own.
    pub fn database(&self) -> Option<&Database> {
        self.database.as_deref()
    }

    /// Its process.
    ///
    /// # Panics
    ///
    /// When it doesn't run.
    pub fn pid(&self) -> u32 {
        lock(&self.child).as_ref().expect("weft runs").id()
    }

    /// Memory that it has resident, in bytes.
    ///
    /// # Panics
    ///
    /// When it doesn't run, or where there is no `/proc`.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("the process's status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap_or_default();
        line.trim()
            .trim_end_matches(" kB")
            .parse::<u64>()
            .expect("a number of kB")
            * 1024
    }

    /// All that it has said so far, standard output and error together, over all its starts.
    pub fn output(&self) -> String {
        tail(&self.log_file(), u64::MAX).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        lock(&self.child)
            .as_mut()
            .and_then(|child| child.try_wait().ok().flatten())
    }

    /// Ends it at once, without a chance to do anything, and waits until it is gone.
    pub fn kill9(&self) {
        if let Some(mut child) = lock(&self.child).take() {
            // One that is gone already is what was wanted.
            let _gone = child.kill();
            let _status = child.wait();
        }
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    ///
    /// When it doesn't, or didn't run.
    pub async fn stop(&self) -> ExitStatus {
        self.signal(Signal::TERM);
        let status = until(GONE, "weft to end when asked to", || async {
            self.exit_status()
        })
        .await;
        *lock(&self.child) = None;
        status
    }

    /// Asks it to end (SIGTERM) without waiting; [`Weft::exit_status`] tells when it has.
    ///
    /// # Panics
    ///
    /// When it doesn't run.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Stops it where it stands (SIGSTOP): its sockets stay open and nothing answers.
    ///
    /// # Panics
    ///
    /// When it doesn't run.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after a pause.
    ///
    /// # Panics
    ///
    /// When it doesn't run.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = lock(&self.child);
        let child = child.as_ref().expect("weft runs");
        kill_process(Pid::from_child(child), signal).expect("a child of ours can be signalled");
    }

    /// Starts it again in the same folder, at the same address, and waits until it is ready. One that runs is killed
    /// first.
    ///
    /// # Panics
    ///
    /// With its output when it doesn't get ready.
    pub async fn restart(&mut self) {
        self.kill9();
        self.spawn();
        if let Err(Exited { status, output }) = self.get_ready().await {
            panic!("weft ended when it was started again ({status}):\n{output}");
        }
    }

    /// The same with other options.
    ///
    /// # Panics
    ///
    /// As [`Weft::restart`].
    pub async fn restart_with(&mut self, options: Options) {
        self.options = options;
        self.restart().await;
    }

    fn address_file(&self) -> PathBuf {
        self.data().join("address")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("weft.log")
    }
}

impl Drop for Weft {
    #[expect(
        clippy::print_stderr,
        reason = "a test that has failed shows what the server said"
    )]
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!(
                "── weft at {} said:\n{}\n──",
                self.address,
                tail(&self.log_file(), SHOWN).unwrap_or_default()
            );
        }
    }
}

/// Runs a command of the binary in a folder, to its end.
///
/// # Panics
///
/// When the binary can't be run.
pub async fn run(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = prepared(folder, arguments, environment);
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("the thread has not panicked");
    output.unwrap_or_else(|error| panic!("{} can't be started: {error}", binary().display()))
}

/// A command of the binary in a folder, to be started.
pub fn prepared(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = command(folder);
    command
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null());
    command
}

/// The binary under test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("WEFT_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("the test knows its executable");
    // target/debug/deps/it-… → target/debug
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("an executable of cargo's is two folders deep");
    folder.join("weft")
}

/// The binary in a folder, with nothing in its environment that a person at this machine may have set for it.
fn command(folder: &Path) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if [
            "WEFT_",
            "OPENAI_",
            "ANTHROPIC_",
            "GEMINI_",
            "AZURE_",
            "OLLAMA_",
            "OTEL_",
        ]
        .iter()
        .any(|prefix| name.to_string_lossy().starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    command.current_dir(folder);
    command
        .env("WEFT_DATA_DIR", folder.join("weft-data"))
        .env("WEFT_OUTBOUND_ALLOW", "127.0.0.1/32");
    command
}

/// The address in the file that says it, with or without a scheme.
fn parsed(text: &str) -> Option<SocketAddr> {
    text.trim()
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .parse()
        .ok()
}

/// Whether `/ready` is a 200. By hand, so that a connection is never kept from one look to the next.
async fn is_ready(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(
                format!("GET /ready HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")
                    .as_bytes(),
            )
            .await?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await?;
        io::Result::Ok(status.ends_with(b" 200"))
    };
    matches!(tokio::time::timeout(LOOK, ask).await, Ok(Ok(true)))
}

/// The end of a file, as text.
fn tail(path: &Path, bytes: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_address_file() {
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        assert_eq!(parsed("127.0.0.1:8080\n"), Some(address));
        assert_eq!(parsed("http://127.0.0.1:8080/\n"), Some(address));
        assert_eq!(
            parsed("127.0.0.1:80"),
            Some(SocketAddr::from(([127, 0, 0, 1], 80)))
        );
        assert_eq!(parsed(""), None);
    }

    #[test]
    fn shows_the_end_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "one two three").unwrap();
        assert_eq!(tail(&path, 5).unwrap(), "three");
        assert_eq!(tail(&path, 500).unwrap(), "one two three");
    }
}
