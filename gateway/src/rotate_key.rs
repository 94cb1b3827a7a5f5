//! `weft rotate-key`: all that the secret key before sealed is sealed by the one in use.

use adapters::clock::SystemClock;
use anyhow::bail;
use auth::rotation::{Rotated, opens_all, rotate};
use entities::Db;

use crate::{admin::ground, config::Config, data_dir::KEY, wiring::Ground};

/// Does it, and answers what to print. Where the key is the data folder's, it makes the new one as well.
///
/// # Errors
/// Why it did not come to its end, in one line; what was done stays done.
pub async fn rotate_key(config: &Config) -> anyhow::Result<String> {
    let mut ground = ground(config)?;
    let key = match (&config.secret_key, &config.secret_key_previous) {
        (None, None) => Key::Folder,
        (Some(key), Some(previous)) if key == previous => {
            bail!("setting `secret_key_previous`: it is the same as `secret_key`")
        }
        (Some(_), None) => bail!(
            "setting `secret_key_previous`: must be given, the key before `secret_key`, whose place the new one takes"
        ),
        (_, Some(_)) => Key::Settings,
    };
    let db = ground.database().await?;
    let done = change(&mut ground, &db, key).await;
    db.close().await;
    done
}

/// Whose the keys are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Folder,
    Settings,
}

async fn change(ground: &mut Ground, db: &Db, key: Key) -> anyhow::Result<String> {
    let clock = SystemClock::shared();
    // One that is under way is brought to its end by the key that was made then.
    let was_under_way = key == Key::Folder && ground.previous_key().is_some();
    if key == Key::Folder && !was_under_way {
        opens_all(db, &clock, &ground.keyring).await?;
        ground.change_key()?;
    }
    let done = rotate(db, &clock, &ground.keyring).await?;
    let mut text = told(&done);
    text += &match key {
        Key::Settings => "All is sealed by `secret_key`. Take `secret_key_previous` out of the settings of every process.\n".to_owned(),
        Key::Folder => {
            ground.folder.forget_previous_key()?;
            format!(
                "All is sealed by {} key in {}. Keep a copy of it where copies of the database are not.\n",
                if was_under_way { "the" } else { "the new" },
                ground.folder.file(KEY).display()
            )
        }
    };
    Ok(text)
}

fn told(done: &[Rotated]) -> String {
    done.iter()
        .map(|Rotated { what, anew, of }| format!("{what}: {anew} of {of} sealed anew\n"))
        .collect()
}
