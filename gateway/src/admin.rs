//! `weft admin`: what whoever runs the program may do without being signed in.

use adapters::clock::SystemClock;
use anyhow::bail;
use auth::{
    Checked,
    operator::{self, IssuedReset},
    verify_audit,
};
use clap::Subcommand;
use entities::Db;

use crate::{
    config::Config,
    data_dir::FolderError,
    health,
    serve::reachable,
    wiring::{Ground, WiringError},
};

/// A command of `weft admin`.
#[derive(Subcommand)]
pub enum Admin {
    /// Print a token by which the person of an account chooses a password, once, within an hour.
    ResetPassword {
        /// The account's e-mail address.
        email: String,
        /// The account that this tenant manages; left out, the one that no tenant does.
        #[arg(long, value_name = "SLUG")]
        tenant: Option<String>,
    },
    /// Make an account that no tenant manages an administrator of the platform.
    GrantPlatform {
        /// The account's e-mail address.
        email: String,
        /// Make it no administrator any more.
        #[arg(long)]
        revoke: bool,
    },
    /// Look whether the audit log is as it was written.
    VerifyAudit {
        /// Of this tenant alone; left out, of all and of the installation.
        #[arg(long, value_name = "SLUG")]
        tenant: Option<String>,
    },
}

/// Does it, and answers what to print.
///
/// # Errors
/// Why nothing was done, in one line.
pub async fn admin(config: &Config, command: Admin) -> anyhow::Result<String> {
    let ground = ground(config)?;
    let db = ground.database().await?;
    let done = run(config, &ground, &db, command).await;
    db.close().await;
    done
}

/// The data folder and the key, for a command that ends; it says what to do where a server has them.
///
/// # Errors
/// Of the folder.
pub fn ground(config: &Config) -> anyhow::Result<Ground> {
    match Ground::take(config) {
        Err(WiringError::Folder(FolderError::InUse { path })) => bail!(
            "setting `data_dir`: {} is in use by another weft, and SQLite is one process's alone: stop it first, and start it again afterwards",
            path.display()
        ),
        ground => Ok(ground?),
    }
}

async fn run(config: &Config, ground: &Ground, db: &Db, command: Admin) -> anyhow::Result<String> {
    let clock = SystemClock::shared();
    match command {
        Admin::ResetPassword { email, tenant } => {
            let issued = operator::reset_password(db, &clock, &email, tenant.as_deref()).await?;
            Ok(to_redeem(&base(config), &issued))
        }
        Admin::GrantPlatform { email, revoke } => {
            let changed = operator::set_platform_administrator(db, &clock, &email, !revoke).await?;
            Ok(match (revoke, changed) {
                (false, true) => format!("{email} administers the platform from now on.\n"),
                (false, false) => format!("{email} administers the platform already.\n"),
                (true, true) => format!("{email} no longer administers the platform.\n"),
                (true, false) => format!("{email} did not administer the platform.\n"),
            })
        }
        Admin::VerifyAudit { tenant } => {
            let found = verify_audit(db, &ground.keyring, tenant.as_deref()).await?;
            verified(&found, tenant.as_deref())
        }
    }
}

/// What was found of each chain; an error where one does not hold.
fn verified(found: &[Checked], slug: Option<&str>) -> anyhow::Result<String> {
    if let (true, Some(slug)) = (found.is_empty(), slug) {
        bail!("no tenant has the slug {slug:?}");
    }
    let name = |checked: &Checked| checked.tenant.clone().unwrap_or("the installation".into());
    let mut text = String::new();
    for checked in found {
        if let Some(broken) = &checked.broken {
            bail!("the audit log of {} does not hold: {broken}", name(checked));
        }
        let since = checked.since.map_or(String::new(), |since| {
            format!(" since {}", since.format("%Y-%m-%d %H:%M UTC"))
        });
        let (seq, mac) = &checked.head;
        let mac: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        text += &format!(
            "{}: {} entries{since}, all as they were written; {} not linked yet; it stands at {seq}:{mac}\n",
            name(checked),
            checked.entries,
            checked.pending,
        );
    }
    text += "Keep where they stand elsewhere: it shows later that nothing was cut off.\n";
    Ok(text)
}

/// Where people reach the server, as far as one can tell while it may not run.
fn base(config: &Config) -> String {
    match (&config.public_url, health::address(config)) {
        (Some(url), _) => url.as_str().trim_end_matches('/').to_owned(),
        (None, Ok(address)) => format!("http://{}", reachable(address)),
        (None, Err(_)) => format!("http://{}", config.listen),
    }
}

/// What the person does with the token.
fn to_redeem(base: &str, issued: &IssuedReset) -> String {
    let IssuedReset {
        token,
        expires_at,
        email,
        tenant,
    } = issued;
    let token = token.expose();
    let query = "mutation($input: RedeemPasswordResetInput!) { redeemPasswordReset(input: $input) { accessToken errors { message path } } }";
    let input = serde_json::json!({"token": token, "newPassword": "CHOOSE-ONE"});
    let body = serde_json::json!({"query": query, "variables": {"input": input}});
    format!(
        "With this token {email} can choose a password, once, until {}, and is then signed in in the tenant {tenant}:\n\n  {token}\n\n\
         Earlier ones are good no longer. It is redeemed by the mutation `redeemPasswordReset`, with a password of one's own:\n\n  \
         curl {base}/graphql -H 'Content-Type: application/json' -d '{body}'\n",
        expires_at.format("%Y-%m-%d %H:%M UTC"),
    )
}
