//! Our one-time code: what stands between the browser that comes back and the front end that it belongs to.

use adapters::sealing::{Secret, digest, equal};
use chrono::{DateTime, Utc};
use entities::{CommandError, Tx, input, query::*, sign_in_code};

use super::{SCOPE, challenge_of};

/// Characters of a code.
const CODE: usize = 200;
/// Characters of a verifier (RFC 7636, 4.1).
const VERIFIER: usize = 128;

/// What is wrong with a code or verifier whatever is in the tables.
pub(super) fn check(code: &Secret, verifier: &Secret) -> Result<(), CommandError> {
    let refusals: Vec<_> = [
        input::text(&["input", "code"], code.expose(), CODE).err(),
        input::text(&["input", "codeVerifier"], verifier.expose(), VERIFIER).err(),
    ]
    .into_iter()
    .flatten()
    .collect();
    match refusals.is_empty() {
        true => Ok(()),
        false => Err(CommandError::Refused(refusals)),
    }
}

/// Takes a code: it is gone, whatever comes of it. `None` where it is not good for this, or the verifier is another's.
pub(super) async fn take(
    tx: &Tx,
    code: &Secret,
    verifier: &Secret,
    to_link: bool,
    now: DateTime<Utc>,
) -> Result<Option<sign_in_code::Model>, CommandError> {
    let digest = digest(code.expose().as_bytes()).to_vec();
    let row = sign_in_code::Entity::anywhere(SCOPE)
        .filter(sign_in_code::Column::Digest.eq(digest.clone()))
        .one(&**tx)
        .await?;
    let gone = sign_in_code::Entity::delete_anywhere(SCOPE)
        .filter(sign_in_code::Column::Digest.eq(digest))
        .exec(&**tx)
        .await?;
    // Of two that come with it at once, one deletes it.
    let row = row.filter(|_| gone.rows_affected == 1);
    let proof = challenge_of(verifier.expose());
    Ok(row.filter(|row| {
        row.expires_at > now
            && row.is_link == to_link
            && equal(proof.as_bytes(), row.code_challenge.as_bytes())
    }))
}
