//! The program as its operator meets it: how it starts, why it doesn't, and how it ends.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn weft(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command
        .current_dir(folder)
        .env_clear()
        .env("WEFT_LISTEN", "127.0.0.1:0");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A server that has said where it is. Killed when it is dropped.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    base: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stderr(Stdio::null())
            .spawn()
            .expect("weft can be started");
        let mut out = BufReader::new(child.stdout.take().expect("its output is piped"));
        let mut first = String::new();
        out.read_line(&mut first).expect("its output can be read");
        let base = first
            .trim()
            .rsplit_once("http://")
            .expect("it says where it is")
            .1
            .to_owned();
        Self { child, out, base }
    }

    fn address(&self) -> SocketAddr {
        self.base.parse().expect("an address with a port")
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address()).expect("it listens");
        let request = format!(
            "{request} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.base
        );
        stream
            .write_all(request.as_bytes())
            .expect("it takes a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    fn send(&self, line: &str, headers: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.address()).expect("it listens");
        let request = format!(
            "{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n\r\n{body}",
            self.base,
            body.len()
        );
        stream
            .write_all(request.as_bytes())
            .expect("it takes a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    /// Ends it as an operator does, and gives the rest of what it printed.
    fn end(mut self) -> String {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("it has an id"), Signal::TERM).expect("it can be told to end");
        let mut rest = String::new();
        self.out
            .read_to_string(&mut rest)
            .expect("its output can be read");
        assert!(self.child.wait().expect("it ends").success());
        rest
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(command: &mut Command) -> Output {
    command.output().expect("weft can be started")
}

/// What it says on not starting: one line, by exit code 1.
fn refusal(command: &mut Command) -> String {
    let output = run(command.env("WEFT_LOG", "off"));
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn it_starts_in_an_empty_folder_and_ends_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(weft(folder.path()));
    let data = folder.path().join("weft-data");
    assert_eq!(
        fs::read_to_string(data.join("address")).unwrap().trim(),
        running.base
    );
    for (name, mode) in [("", 0o700), ("secret_key", 0o600), ("weft.db", 0o600)] {
        let meta = fs::metadata(data.join(name)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, mode, "{name}");
    }
    assert!(running.ask("GET /health").starts_with("HTTP/1.1 200"));
    assert!(running.ask("GET /ready").starts_with("HTTP/1.1 200"));
    let answer = running.ask("GET /graphql?query=%7Bservice%7Bname%20needsSetup%7D%7D");
    assert!(
        answer.contains("{\"data\":{\"service\":{\"name\":\"Weft\",\"needsSetup\":true}}"),
        "{answer}"
    );
    assert!(
        running
            .ask("GET /schema.graphql")
            .contains("type Service {")
    );
    assert!(run(weft(folder.path()).arg("health")).status.success());
    let other = refusal(&mut weft(folder.path()));
    assert!(
        other.contains("setting `data_dir`") && other.contains("in use by another weft"),
        "{other}"
    );

    let page = running.ask("GET /");
    assert!(
        page.starts_with("HTTP/1.1 200") && page.contains("src=\"page/page.js\""),
        "{page}"
    );

    let base = running.base.clone();
    let said = running.end();
    assert!(
        said.contains(&format!("\n  http://{base}/\n")) && !said.contains("#setup"),
        "{said}"
    );
    assert!(!data.join("address").exists());
    let well = refusal(
        weft(folder.path())
            .arg("health")
            .env("WEFT_LISTEN", "127.0.0.1:1"),
    );
    assert!(well.contains("nothing listens at 127.0.0.1:1"), "{well}");
    // the same folder again
    assert!(!Running::start(weft(folder.path())).end().is_empty());
}

#[test]
fn the_set_up_token_is_printed_where_it_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let start = |page: &str| {
        let mut command = weft(folder.path());
        command
            .env("WEFT_TRUSTED_PROXIES", "10.0.0.0/8")
            .env("WEFT_SETUP_TOKEN", "open-sesame & more")
            .env("WEFT_GRAPHIQL", page);
        Running::start(command)
    };
    let said = start("true").end();
    assert!(
        said.contains("/#setup=open-sesame%20%26%20more\n") && !said.contains("curl"),
        "{said}"
    );
    // where there is no page, the command for it
    let running = start("false");
    assert!(running.ask("GET /").starts_with("HTTP/1.1 404"));
    assert!(running.ask("GET /page/page.js").starts_with("HTTP/1.1 404"));
    let said = running.end();
    assert!(
        said.contains("\"token\":\"open-sesame & more\"") && !said.contains("#setup"),
        "{said}"
    );
}

#[test]
fn why_it_does_not_start_is_one_line_that_names_the_setting() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    fs::create_dir(folder.path().join("wide")).unwrap();
    fs::set_permissions(
        folder.path().join("wide"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    fs::write(
        folder.path().join("no-database"),
        "text that is no database, and is long enough",
    )
    .unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let postgres = format!("postgres://u:geheim@{nobody}/x");
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("WEFT_LISTN", "x")],
            "unknown setting `listn` (WEFT_LISTN)",
        ),
        (&[("WEFT_LISTEN", &taken)], "setting `listen`"),
        (
            &[("WEFT_DATA_DIR", "wide")],
            "setting `data_dir`: wide is open to others (mode 755)",
        ),
        (&[("WEFT_DATA_DIR", "no-database")], "setting `data_dir`"),
        (
            &[("WEFT_DATABASE_URL", "sqlite:no-database")],
            "setting `database_url`",
        ),
        (
            &[("WEFT_DATABASE_URL", "sqlite:no/such/folder.db")],
            "setting `database_url`",
        ),
        (
            &[("WEFT_DATABASE_URL", "sqlite::memory:")],
            "setting `database_url`: `sqlite:` needs the path of a file",
        ),
        (&[("WEFT_DATABASE_URL", &postgres)], "setting `secret_key`"),
        (
            &[("WEFT_DATABASE_URL", &postgres), ("WEFT_SECRET_KEY", KEY)],
            "setting `database_url`: can't reach the database",
        ),
    ];
    for (settings, expected) in cases {
        let said = refusal(weft(folder.path()).envs(settings.iter().copied()));
        assert!(
            said.contains(expected) && !said.contains("geheim"),
            "{settings:?}: {said}"
        );
    }
    let output = run(weft(folder.path()).env("WEFT_LOG", "nonsense=nonsense"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("setting `log.filter`"));
}

/// Sets up by the mutation, without a token: from the machine itself.
fn set_up(running: &Running) {
    let body = r#"{"query":"mutation { setUp(input: {email: \"Ada@Example.com\", password: \"weaving-at-night\", name: \"Ada\", tenantName: \"Looms\"}) { accessToken errors { message } } }"}"#;
    let answer = running.send("POST /graphql", "Content-Type: application/json", body);
    assert!(answer.contains("\"errors\":[]"), "{answer}");
}

#[test]
fn accounts_are_helped_where_nobody_is_signed_in() {
    let folder = tempfile::tempdir().unwrap();
    let admin = |arguments: &[&str]| {
        let mut command = weft(folder.path());
        command.arg("admin").args(arguments);
        command
    };
    let told = |arguments: &[&str]| refusal(&mut admin(arguments));
    let said = |arguments: &[&str]| {
        let output = run(admin(arguments).env("WEFT_PUBLIC_URL", "https://weft.example.com"));
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(
        told(&["reset-password", "ada@example.com"])
            .contains("nobody has set this installation up")
    );
    let running = Running::start(weft(folder.path()));
    set_up(&running);
    for command in ["reset-password", "grant-platform"] {
        let told = told(&[command, "ada@example.com"]);
        assert!(
            told.contains("in use by another weft") && told.contains("stop it first"),
            "{told}"
        );
    }
    running.end();

    let reset = said(&["reset-password", "ada@example.com"]);
    let tokens: Vec<_> = reset
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("weft_pr_"))
        .collect();
    assert_eq!(tokens.len(), 1, "{reset}");
    assert_eq!(tokens[0].len(), "weft_pr_".len() + 43);
    assert!(
        reset.contains("Ada@Example.com") && reset.contains("the tenant looms"),
        "{reset}"
    );
    assert!(
        reset.contains("curl https://weft.example.com/graphql")
            && reset.contains("redeemPasswordReset"),
        "{reset}"
    );
    assert_ne!(said(&["reset-password", "ada@example.com"]), reset);
    for (arguments, part) in [
        (
            &["reset-password", "nobody@example.com"][..],
            "no account has the e-mail address",
        ),
        (
            &["reset-password", "ada@example.com", "--tenant", "looms"],
            "manages no account",
        ),
        (
            &["reset-password", "ada@example.com", "--tenant", "x"],
            "no tenant has the slug",
        ),
        (
            &["grant-platform", "nobody@example.com"],
            "no account has the e-mail address",
        ),
        (
            &["grant-platform", "ada@example.com", "--revoke"],
            "the last administrator of the platform",
        ),
    ] {
        let told = told(arguments);
        assert!(told.contains(part), "{arguments:?}: {told}");
    }
    assert_eq!(
        said(&["grant-platform", "ada@example.com"]),
        "ada@example.com administers the platform already.\n"
    );
    assert!(
        run(&mut admin(&[])).status.code() == Some(2),
        "it says what there is"
    );
    // nothing of it is in the way of the next start
    Running::start(weft(folder.path())).end();
}

#[test]
fn another_key_than_the_databases_is_told() {
    let folder = tempfile::tempdir().unwrap();
    Running::start(weft(folder.path())).end();
    let said = refusal(weft(folder.path()).env("WEFT_SECRET_KEY", KEY));
    assert!(
        said.contains("setting `secret_key`: it is not the key"),
        "{said}"
    );
}

#[test]
fn commands_print() {
    let folder = tempfile::tempdir().unwrap();
    let text = |command: &mut Command| String::from_utf8(run(command).stdout).unwrap();
    let printed = text(weft(folder.path()).arg("schema"));
    let committed = include_str!("../../schema/schema.graphql");
    assert!(printed == committed, "not what schema.graphql holds");
    let config = text(
        weft(folder.path())
            .arg("config")
            .env("WEFT_SETUP_TOKEN", "geheim"),
    );
    assert!(
        config.contains("listen = \"127.0.0.1:0\"") && !config.contains("geheim"),
        "{config}"
    );
    for _ in 0..2 {
        assert_eq!(
            text(weft(folder.path()).arg("migrate")),
            "The database is up to date.\n"
        );
    }
    assert!(folder.path().join("weft-data/weft.db").exists());
}
