//! `weft rotate-key`: the secret key changes under an installation, and nobody notices.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    client::{Client, OWNER_EMAIL, OWNER_PASSWORD},
    provider::Script,
    server::{Options, SECRET_KEY, Weft, prepared, run},
    wait::until,
};

use crate::scene::{PATIENCE, Scene};

/// Another key, and one that sealed nothing.
pub const NEW_KEY: &str = "d2VmdC10ZXN0LWtleS13ZWZ0LXRlc3Qta2V5LTAwMDI=";
const WRONG_KEY: &str = "d2VmdC10ZXN0LWtleS13ZWZ0LXRlc3Qta2V5LTAwMDM=";

const MODEL: &str = "after-the-change";
/// What an answer of the model goes by.
const API_KEY: &str = "Bearer sk-scripted";

/// Runs SQL in the database, past the server: by `psql`, else by Python's own SQLite. Rows as lines, values separated by `|`.
async fn sql(weft: &Weft, text: &str) -> String {
    if let Some(database) = weft.database() {
        return database.sql(text).await.expect("good SQL");
    }
    const PROGRAM: &str = "import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)
for row in db.execute(sys.argv[2]): print(*row, sep='|')";
    let mut command = Command::new("python3");
    command.args(["-c", PROGRAM]);
    command.arg(weft.data().join("weft.db")).arg(text);
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.expect("no panic").expect("python3 is there");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}: {told}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.trim_end().to_owned()
}

/// All that is sealed by the secret key, by row.
async fn sealed(weft: &Weft) -> Vec<String> {
    let hex = match weft.database() {
        Some(_) => |column: &str| format!("encode({column}, 'hex')"),
        None => |column: &str| format!("hex({column})"),
    };
    let mut all = Vec::new();
    for (table, id, column) in [
        ("tenants", "slug", "data_key"),
        ("signing_keys", "'key'", "sealed"),
        ("audit_chains", "floor", "sealed_key"),
        ("installation_keys", "one", "sealed"),
    ] {
        let query = format!(
            "select '{table}', {id}, {} from {table} order by {column}",
            hex(column)
        );
        all.extend(sql(weft, &query).await.lines().map(str::to_owned));
    }
    all
}

/// The settings of a server, or of a command beside it, by these keys; without any the data folder's.
#[derive(Clone, Copy, Default)]
struct Keys {
    current: Option<&'static str>,
    previous: Option<&'static str>,
}

const CHANGING: Keys = Keys {
    current: Some(NEW_KEY),
    previous: Some(SECRET_KEY),
};
const CHANGED: Keys = Keys {
    current: Some(NEW_KEY),
    previous: None,
};
const BEFORE: Keys = Keys {
    current: Some(SECRET_KEY),
    previous: None,
};

impl Keys {
    fn options(self) -> Options {
        let mut options = Options::default();
        for (name, key) in self.variables() {
            options = options.with(name, key);
        }
        options
    }

    fn variables(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let named = [
            ("WEFT_SECRET_KEY", self.current),
            ("WEFT_SECRET_KEY_PREVIOUS", self.previous),
        ];
        named
            .into_iter()
            .filter_map(|(name, key)| Some((name, key?)))
    }
}

/// A command of the operator's on the database of `weft`, which may run or not.
async fn command(weft: &Weft, arguments: &[&str], keys: Keys) -> Result<String, String> {
    let folder = weft.data();
    let folder = folder.parent().expect("the data folder lies in another");
    let url = weft.database().map(|database| database.url().to_owned());
    let mut variables: Vec<(&str, &str)> = keys.variables().collect();
    variables.extend([("WEFT_LOG", "off"), ("WEFT_LISTEN", "127.0.0.1:0")]);
    if let Some(url) = &url {
        variables.push(("WEFT_DATABASE_URL", url));
    }
    let output = run(folder, arguments, &variables).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

async fn rotate(weft: &Weft, keys: Keys) -> Result<String, String> {
    command(weft, &["rotate-key"], keys).await
}

/// How many of each were sealed anew, of how many, as the command tells it.
fn counted(told: &str, what: &str) -> (u64, u64) {
    let line = told
        .lines()
        .find_map(|line| line.strip_prefix(what)?.strip_prefix(": "))
        .unwrap_or_else(|| panic!("nothing of {what} in {told}"));
    let numbers: Vec<u64> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    (numbers[0], numbers[1])
}

/// Somebody's tokens from before, and what is expected of them for ever.
struct Before {
    scene: Scene,
    access: Client,
    refresh: String,
    agent: String,
    key: Value,
}

const CREATE: &str = "mutation ($input: CreateConversationInput!) { createConversation(input: $input) { conversation { id } errors { code } } }";
const ASK: &str = "mutation ($input: RefreshSessionInput!) { refreshSession(input: $input) { accessToken refreshToken errors { code } } }";

async fn refreshed(client: &Client, token: &str) -> Result<(Client, String), String> {
    let given = json!({ "input": { "refreshToken": token } });
    let answer = client.with_token(None).query(ASK, given).await;
    let data = answer.map_err(|errors| errors.code().to_owned())?;
    let pair = &data["refreshSession"];
    let text = |name: &str| pair[name].as_str().expect("a token").to_owned();
    Ok((
        client.with_token(Some(&text("accessToken"))),
        text("refreshToken"),
    ))
}

impl Before {
    /// A server of which somebody has tokens, a model's key and a mutation that may come again.
    async fn new(keys: Keys) -> Self {
        let scene = Scene::with(keys.options()).await;
        scene.provider.script(MODEL, Script::text("an answer"));
        let agent = scene.agent(MODEL).await;
        let document = "mutation ($input: SignInInput!) { signIn(input: $input) { accessToken refreshToken errors { code } } }";
        let given = json!({ "input": { "email": OWNER_EMAIL, "password": OWNER_PASSWORD } });
        let pair = scene.client.with_token(None).done(document, given).await;
        let once = json!({ "input": { "title": "One", "idempotencyKey": "once" } });
        let access = scene.client.with_token(pair["accessToken"].as_str());
        let made = access.done(CREATE, once).await;
        Self {
            refresh: pair["refreshToken"].as_str().expect("a token").to_owned(),
            access,
            agent,
            key: made["conversation"].clone(),
            scene,
        }
    }

    /// Nothing of what was given out or stored before is lost.
    async fn holds(&mut self) {
        let viewer = self
            .access
            .ok("{ viewer { user { email } } }", json!({}))
            .await;
        assert_eq!(viewer["viewer"]["user"]["email"], OWNER_EMAIL);
        let once = json!({ "input": { "title": "One", "idempotencyKey": "once" } });
        let again = self.access.done(CREATE, once).await;
        assert_eq!(again["conversation"], self.key, "done once");
        let other = json!({ "input": { "title": "Two", "idempotencyKey": "once" } });
        let refused = self.access.refused(CREATE, other).await;
        assert_eq!(refused[0]["code"], "CONFLICT");
        let pair = refreshed(&self.access, &self.refresh).await;
        let (access, refresh) = pair.expect("the next pair");
        (self.access, self.refresh) = (access, refresh);

        self.scene.provider.forget_calls();
        let sent = self.access.send_to_agent(&self.agent, "a question").await;
        let run = self.scene.ended(&sent.run).await;
        assert_eq!(run["status"], "COMPLETED", "{run}");
        let calls = self.scene.provider.calls_of(MODEL);
        assert!(!calls.is_empty());
        for call in calls {
            assert_eq!(call.headers["authorization"], API_KEY);
        }
    }
}

/// The whole way: what one key sealed is the other's, and what was given out stays good.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_takes_the_place_of_another() {
    let mut before = Before::new(BEFORE).await;
    before.scene.weft.stop().await;
    let sealed_before = sealed(&before.scene.weft).await;
    let weft = &before.scene.weft;
    for (keys, expected) in [
        (BEFORE, "setting `secret_key_previous`: must be given"),
        (
            Keys {
                current: Some(NEW_KEY),
                previous: Some(NEW_KEY),
            },
            "it is the same as `secret_key`",
        ),
    ] {
        let told = rotate(weft, keys).await.unwrap_err();
        assert!(told.contains(expected), "{told}");
    }
    let verified = command(weft, &["admin", "verify-audit"], BEFORE).await;
    assert!(verified.unwrap().contains("as they were written"));

    let told = rotate(weft, CHANGING).await.unwrap();
    assert_eq!(counted(&told, "data keys of tenants"), (1, 1));
    assert_eq!(counted(&told, "keys of access tokens"), (1, 1));
    assert_eq!(counted(&told, "the installation's key"), (1, 1));
    let (chains, of) = counted(&told, "keys of audit chains");
    assert!(chains == of && of >= 1, "{told}");
    assert!(
        told.contains("Take `secret_key_previous` out of the settings"),
        "{told}"
    );
    let now = sealed(weft).await;
    assert_eq!(now.len(), sealed_before.len());
    assert!(
        now.iter().all(|row| !sealed_before.contains(row)),
        "each is another"
    );
    // once is enough
    let told = rotate(weft, CHANGING).await.unwrap();
    assert_eq!(counted(&told, "data keys of tenants"), (0, 1));
    assert_eq!(sealed(weft).await, now);
    let refused = command(weft, &["admin", "verify-audit"], BEFORE).await;
    assert!(refused.unwrap_err().contains("does not open"));
    let verified = command(weft, &["admin", "verify-audit"], CHANGED).await;
    assert!(verified.unwrap().contains("as they were written"));

    before.scene.weft.restart_with(CHANGED.options()).await;
    before.holds().await;
    until(PATIENCE, "it stands in the audit log, linked", async || {
        let weft = &before.scene.weft;
        let query = "select count(*) from audit_entries join audit_links on entry_id = audit_entries.id where action = 'rotate-key'";
        (sql(weft, query).await == "1").then_some(())
    })
    .await;
    before.scene.weft.stop().await;
    let verified = command(&before.scene.weft, &["admin", "verify-audit"], CHANGED).await;
    let verified = verified.unwrap();
    assert!(
        verified.contains("the installation: 1 entries"),
        "{verified}"
    );
}

/// Beside servers that run: those that have both keys don't notice.
#[tokio::test(flavor = "multi_thread")]
async fn it_runs_beside_servers_on_postgres_alone() {
    let mut before = Before::new(BEFORE).await;
    if before.scene.weft.database().is_none() {
        let told = rotate(&before.scene.weft, CHANGING).await.unwrap_err();
        assert!(
            told.contains("in use by another weft") && told.contains("stop it first"),
            "{told}"
        );
        before.holds().await;
        return;
    }
    // first all are given the new key to open by, then to seal by
    let reads_new = Keys {
        current: Some(SECRET_KEY),
        previous: Some(NEW_KEY),
    };
    before.scene.weft.restart_with(reads_new.options()).await;
    let replica = Weft::replica_with(&before.scene.weft, CHANGING.options()).await;
    before.holds().await;
    let document = "mutation { createTenant(input: { slug: \"second\", name: \"Second\" }) { tenant { id } errors { code } } }";
    // sealed by the new key, and read by a server whose key it is not yet
    let there = before.access.at(&replica.url());
    there.done(document, json!({})).await;
    before.holds().await;
    before.scene.weft.restart_with(CHANGING.options()).await;

    let told = rotate(&before.scene.weft, CHANGING).await.unwrap();
    assert_eq!(counted(&told, "data keys of tenants"), (1, 2), "{told}");
    before.holds().await;
    let here = before.access.at(&before.scene.weft.url());
    before.access = before.access.at(&replica.url());
    before.holds().await;
    before.access = here.with_token(None);
    let told = rotate(&before.scene.weft, CHANGING).await.unwrap();
    assert_eq!(counted(&told, "data keys of tenants"), (0, 2), "{told}");

    before.scene.weft.restart_with(CHANGED.options()).await;
    let (access, refresh) = refreshed(&before.access, &before.refresh).await.unwrap();
    (before.access, before.refresh) = (access, refresh);
    before.holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_previous_key_changes_nothing() {
    let mut before = Before::new(BEFORE).await;
    before.scene.weft.stop().await;
    let weft = &before.scene.weft;
    let sealed_before = sealed(weft).await;
    let wrong = Keys {
        current: Some(NEW_KEY),
        previous: Some(WRONG_KEY),
    };
    let told = rotate(weft, wrong).await.unwrap_err();
    let neither = "neither the secret key nor the one before it opens tenants row ";
    assert!(
        told.contains(neither) && told.contains("nothing was changed"),
        "{told}"
    );
    assert_eq!(sealed(weft).await, sealed_before);

    // a single row that nobody can open: it is named, and stays as it is with all others
    let id = sql(weft, "select id from signing_keys").await;
    let id = match weft.database() {
        Some(_) => id,
        None => sql(weft, "select lower(hex(id)) from signing_keys").await,
    };
    let keep = "create table kept as select sealed from signing_keys";
    sql(weft, keep).await;
    let spoil = match weft.database() {
        Some(_) => "update signing_keys set sealed = decode(repeat('01', 60), 'hex')",
        None => "update signing_keys set sealed = zeroblob(60)",
    };
    sql(weft, spoil).await;
    let spoiled = sealed(weft).await;
    let told = rotate(weft, CHANGING).await.unwrap_err();
    let named = told
        .split_once("opens signing_keys row ")
        .unwrap_or_else(|| panic!("{told}"));
    let row: String = named.1.chars().take_while(|c| *c != ';').collect();
    assert_eq!(row.replace('-', ""), id.replace('-', ""));
    assert_eq!(sealed(weft).await, spoiled);

    let back = "update signing_keys set sealed = (select sealed from kept)";
    sql(weft, back).await;
    assert_eq!(sealed(weft).await, sealed_before);
    before.scene.weft.restart_with(BEFORE.options()).await;
    before.holds().await;
}

/// A command that hangs in the middle, and what kills it.
async fn killed_in_the_middle(weft: &Weft, keys: Keys) {
    let hang = match weft.database() {
        Some(_) => {
            "create function hang() returns trigger language plpgsql as $$ begin perform pg_sleep(600); return new; end $$;
            create trigger hang before update on audit_chains for each row execute function hang()"
        }
        None => {
            "create trigger hang before update on audit_chains begin
            select (with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n); end"
        }
    };
    let let_go = match weft.database() {
        Some(_) => "drop trigger hang on audit_chains; drop function hang",
        None => "drop trigger hang",
    };
    sql(weft, hang).await;
    let before = sealed(weft).await;
    let mut child = spawned(weft, keys);
    let done = |before: &str, now: &[String]| !now.iter().any(|row| row == before);
    until(
        Duration::from_secs(10),
        "the first half is done",
        async || {
            let now = sealed(weft).await;
            let keys = before.iter().filter(|row| row.starts_with("signing_keys"));
            keys.into_iter().all(|row| done(row, &now)).then_some(())
        },
    )
    .await;
    child.kill().expect("it hangs");
    child.wait().expect("it is gone");
    sql(weft, let_go).await;
    let now = sealed(weft).await;
    for row in &before {
        let is_first = row.starts_with("tenants") || row.starts_with("signing_keys");
        assert_eq!(done(row, &now), is_first, "{row}");
    }
}

fn spawned(weft: &Weft, keys: Keys) -> std::process::Child {
    let folder = weft.data();
    let folder: &Path = folder.parent().expect("the data folder lies in another");
    let mut command = prepared(folder, &["rotate-key"], &[("WEFT_LOG", "off")]);
    if let Some(database) = weft.database() {
        command.env("WEFT_DATABASE_URL", database.url());
    }
    command.envs(keys.variables());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.expect("weft can be started")
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_half_way_it_is_finished_by_the_next() {
    let mut before = Before::new(BEFORE).await;
    before.scene.weft.stop().await;
    killed_in_the_middle(&before.scene.weft, CHANGING).await;

    // neither alone is enough, and both together are
    for keys in [BEFORE, CHANGED] {
        let told = command(&before.scene.weft, &["serve"], keys).await;
        let told = told.unwrap_err();
        assert!(told.contains("it is not the key"), "{told}");
    }
    before.scene.weft.restart_with(CHANGING.options()).await;
    before.holds().await;
    before.scene.weft.stop().await;

    let told = rotate(&before.scene.weft, CHANGING).await.unwrap();
    assert_eq!(counted(&told, "data keys of tenants"), (0, 1), "{told}");
    assert_eq!(counted(&told, "keys of access tokens"), (0, 1), "{told}");
    let (chains, of) = counted(&told, "keys of audit chains");
    assert!(chains == of && of >= 1, "{told}");
    before.scene.weft.restart_with(CHANGED.options()).await;
    before.holds().await;
}

/// The key in the data folder, which nobody has to know.
#[tokio::test(flavor = "multi_thread")]
async fn the_folders_own_key_is_changed_by_the_command() {
    let folders = Keys::default();
    let mut before = Before::new(folders).await;
    if before.scene.weft.database().is_some() {
        // there it must be given
        return;
    }
    let file = |name: &str| before.scene.weft.data().join(name);
    let (key, previous) = (file("secret_key"), file("secret_key.previous"));
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let old = read(&key).expect("a key");
    let told = rotate(&before.scene.weft, folders).await.unwrap_err();
    assert!(told.contains("in use by another weft"), "{told}");
    assert_eq!((read(&key), read(&previous)), (Some(old.clone()), None));
    before.scene.weft.stop().await;

    // nothing is begun where a row does not open
    let weft = &before.scene.weft;
    sql(weft, "create table kept as select sealed from signing_keys").await;
    sql(weft, "update signing_keys set sealed = zeroblob(60)").await;
    let told = rotate(weft, folders).await.unwrap_err();
    assert!(told.contains("opens signing_keys row "), "{told}");
    assert_eq!((read(&key), read(&previous)), (Some(old.clone()), None));
    sql(
        weft,
        "update signing_keys set sealed = (select sealed from kept)",
    )
    .await;

    killed_in_the_middle(weft, folders).await;
    let new = read(&key).expect("a key");
    assert_ne!(new, old);
    assert_eq!(read(&previous), Some(old));
    before.scene.weft.restart().await;
    before.holds().await;
    before.scene.weft.stop().await;
    let told = rotate(&before.scene.weft, folders).await.unwrap();
    assert_eq!(counted(&told, "data keys of tenants"), (0, 1), "{told}");
    assert_eq!((read(&key), read(&previous)), (Some(new.clone()), None));
    before.scene.weft.restart().await;
    before.holds().await;
    before.scene.weft.stop().await;

    // killed wherever it may be, again and again
    for ms in (0..120).step_by(8) {
        let mut child = spawned(&before.scene.weft, folders);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        // One that has come to its end is gone already.
        let _gone = child.kill();
        child.wait().expect("it is gone");
    }
    let told = rotate(&before.scene.weft, folders).await.unwrap();
    assert_eq!(counted(&told, "data keys of tenants").1, 1, "{told}");
    assert_eq!(read(&previous), None);
    assert_ne!(read(&key), Some(new));
    before.scene.weft.restart().await;
    before.holds().await;
}
