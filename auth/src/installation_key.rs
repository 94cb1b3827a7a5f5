//! The key that keyed digests of the installation follow from: made with the database, and stored sealed, so that refresh tokens
//! stay good and addresses stay known when the secret key changes.

use adapters::{
    clock::SharedClock,
    sealing::{Keyring, Place},
};
use entities::{CommandError, Db, SystemScope, Within, installation_key};
use uuid::Uuid;

const SCOPE: SystemScope = SystemScope::of("the installation's key");

/// Where it is sealed for.
pub(crate) const PLACE: Place<'static> = Place {
    table: "installation_keys",
    column: "sealed",
    tenant: Uuid::nil(),
    row: Uuid::nil(),
};

/// `keyring` with the installation's key, which is made where there is none yet.
///
/// # Errors
/// The database can't be used; the secret key does not open it.
pub async fn with_installation_key(
    db: &Db,
    clock: &SharedClock,
    keyring: &Keyring,
) -> Result<Keyring, CommandError> {
    let row = async || {
        installation_key::Entity::anywhere(SCOPE)
            .one(db.reader(SCOPE))
            .await
    };
    let mut found = row().await?;
    if found.is_none() {
        let mut random = [0; 32];
        clock.random(&mut random);
        let made = installation_key::Model {
            one: 1,
            sealed: keyring.seal_system(&PLACE, &random),
        };
        let tx = db.begin(Within::System(SCOPE)).await?;
        installation_key::Entity::add_unless_there(SCOPE, &*tx, made).await?;
        tx.commit().await?;
        // That of another process, where it was first.
        found = row().await?;
    }
    let wrong = |text: String| CommandError::Internal(text);
    let found = found.ok_or_else(|| wrong("the installation's key is not there".into()))?;
    let opened = keyring.open_system(&PLACE, &found.sealed);
    let opened = opened.map_err(|error| {
        wrong(format!(
            "the installation's key does not open with this secret key: {error}"
        ))
    })?;
    let key = <&[u8; 32]>::try_from(opened.as_slice());
    let key = key.map_err(|_| wrong("the installation's key is none".into()))?;
    Ok(keyring.with_installation_key(key))
}
