//! The front end signs in by the code that the browser brought it.

use adapters::sealing::Secret;
use chrono::{DateTime, Utc};
use entities::{
    CommandError, CredentialKind, SessionId, Tx, identity, membership,
    query::*,
    session,
    standing::{Standing, groups_of, memberships_of},
    user,
};

use super::{SCOPE, code};
use crate::{Authority, RequestContext, SESSION_IDLE, SignedIn, attempts, audit, sessions};

/// One answer for whatever is wrong with a code.
pub(super) const WRONG: CommandError =
    CommandError::Unauthenticated("the code is not valid, or no longer");

/// With what a sign-in at a provider ends.
#[derive(Debug, Clone)]
pub struct RedeemSignInCode {
    /// As it came with the browser.
    pub code: Secret,
    /// What the challenge at the start was made of.
    pub verifier: Secret,
}

impl Authority {
    /// Begins the session that a code stands for. The code is good once, for a minute.
    ///
    /// # Errors
    /// [`CommandError::Unauthenticated`] for whatever is wrong; [`CommandError::RateLimited`] for that after ten failures of an
    /// address within a minute; refusals of what can be no code.
    pub async fn redeem_sign_in_code(
        &self,
        input: RedeemSignInCode,
        context: RequestContext,
    ) -> Result<SignedIn, CommandError> {
        code::check(&input.code, &input.verifier)?;
        self.signing_key().await?;
        let session = SessionId(self.0.clock.uuid());
        let lasts = self.0.oidc.session_lasts;
        let (clock, address) = (self.0.clock.clone(), context.address);
        let standing = self
            .command(move |tx, now| {
                Box::pin(async move {
                    let begun = begin(tx, &input, session, &context, now).await?;
                    let Some((mut standing, row)) = begun else {
                        return Ok(None);
                    };
                    let ends_at = now + lasts;
                    let row = session::Model {
                        ends_at,
                        expires_at: (now + SESSION_IDLE).min(ends_at),
                        ..row
                    };
                    session::Entity::add(&**tx, row.clone()).await?;
                    standing.session = Some(row);
                    let action = "redeemSignInCode";
                    audit::signed_in(tx, &clock, now, &standing, action, address).await?;
                    Ok(Some(standing))
                })
            })
            .await?;
        match standing {
            Some(standing) => self.issue(standing).await,
            None => Err(self.failed_code(address).await),
        }
    }

    /// Counts a failure of the address, and says what is answered: that it is wrong, or that there were too many.
    pub(super) async fn failed_code(&self, address: Option<std::net::IpAddr>) -> CommandError {
        let Some(address) = address else { return WRONG };
        // Only now: a code that is good can't have been guessed, and no neighbour's failures hold it up.
        let address = attempts::address_key(&self.0.keyring, address);
        let counted = self
            .command(move |tx, now| {
                Box::pin(async move { attempts::count(tx, None, Some(&address), false, now).await })
            })
            .await;
        counted.err().unwrap_or(WRONG)
    }
}

/// Whoever the code stands for, with a session that is still to be added; `None` where it is not good, or he may no longer.
async fn begin(
    tx: &Tx,
    input: &RedeemSignInCode,
    session: SessionId,
    context: &RequestContext,
    now: DateTime<Utc>,
) -> Result<Option<(Standing, session::Model)>, CommandError> {
    let Some(taken) = code::take(tx, &input.code, &input.verifier, false, now).await? else {
        return Ok(None);
    };
    let Some(id) = taken.user_id else {
        return Ok(None);
    };
    let mut memberships = memberships_of(SCOPE, &**tx, id).await?.into_iter();
    let found = memberships.find(|(_, tenant)| Some(tenant.id) == taken.tenant_id);
    let Some((membership, tenant)) = found else {
        return Ok(None);
    };
    membership::Entity::change_anywhere(SCOPE)
        .col_expr(membership::Column::LastUsedAt, Expr::value(now))
        .col_expr(membership::Column::LastSeenAt, Expr::value(now))
        .filter(membership::Column::Id.eq(membership.id))
        .exec(&**tx)
        .await?;
    // After the membership, in the order in which whoever else locks both takes them.
    let user = user::Entity::anywhere(SCOPE)
        .filter(user::Column::Id.eq(id))
        .lock_exclusive()
        .one(&**tx)
        .await?;
    let Some(user) = user.filter(|user| user.is_active) else {
        return Ok(None);
    };
    // It may have been unlinked meanwhile, by somebody who held the same lock.
    let identity = identity::Entity::anywhere(SCOPE)
        .filter(identity::Column::Issuer.eq(taken.issuer.as_str()))
        .filter(identity::Column::Subject.eq(taken.subject.as_str()))
        .filter(identity::Column::UserId.eq(id))
        .one(&**tx)
        .await?;
    if identity.map(|identity| identity.id) != taken.identity_id {
        return Ok(None);
    }
    user::Entity::change_anywhere(SCOPE)
        .col_expr(user::Column::LastSeenAt, Expr::value(now))
        .filter(user::Column::Id.eq(id))
        .exec(&**tx)
        .await?;
    let row = session::Model {
        provider: Some(taken.provider),
        identity_id: taken.identity_id,
        provider_sid: taken.provider_sid,
        sealed_id_token: taken.sealed_id_token,
        ..sessions::row(
            session,
            id,
            tenant.id,
            CredentialKind::OidcSession,
            context,
            now,
        )
    };
    let standing = Standing {
        user,
        session: None,
        key: None,
        groups: groups_of(&**tx, &membership).await?,
        tenant: Some(tenant),
        membership: Some(membership),
    };
    Ok(Some((standing, row)))
}
