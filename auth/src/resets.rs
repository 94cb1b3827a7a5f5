//! Tokens that let their holder choose a password, once, within an hour.
//!
//! One is `weft_pr_` and 43 characters of base 62 that hold 256 random bits. The row holds its SHA-256.

use adapters::{
    clock::SharedClock,
    sealing::{Secret, digest},
};
use chrono::{DateTime, TimeDelta, Utc};
use entities::{CommandError, SystemScope, TenantId, Tx, UserId, password_reset, query::*};

use crate::base62;

const SCOPE: SystemScope = SystemScope::of("password resets");

/// What tokens that let one choose a password begin with.
pub const RESET_PREFIX: &str = "weft_pr_";
/// For how long one is good.
pub const RESET_LASTS: TimeDelta = TimeDelta::hours(1);

/// Makes a token for `user`, who is signed in in `tenant` when he redeems it. Those made for him before are good no longer.
pub(crate) async fn issue(
    tx: &Tx,
    clock: &SharedClock,
    user: UserId,
    tenant: TenantId,
    now: DateTime<Utc>,
) -> Result<Secret, CommandError> {
    let mut random = [0; 32];
    clock.random(&mut random);
    let token = Secret::new(format!("{RESET_PREFIX}{}", base62::encode(&random)));
    password_reset::Entity::delete_anywhere(SCOPE)
        .filter(password_reset::Column::UserId.eq(user))
        .exec(&**tx)
        .await?;
    let row = password_reset::Model {
        digest: digest(token.expose().as_bytes()).to_vec(),
        user_id: user,
        tenant_id: tenant,
        expires_at: now + RESET_LASTS,
        created_at: now,
    };
    password_reset::Entity::add(&**tx, row).await?;
    Ok(token)
}
