//! From what a request carried to who is asking.
//!
//! Each credential is read afresh, in one statement, at most every two seconds per process.

use adapters::{clock::BootInstant, sealing::digest};
use entities::{
    ApiKeyId, CommandError, DbErr, Permissions, Principal, Scope, SystemScope, TenantId, UserId,
    input,
    standing::{InTenant, of_key, of_session, of_user},
};

use crate::{Authority, Identity, api_keys, identity::CredentialId, tokens};

const SCOPE: SystemScope = SystemScope::of("credentials");
pub(crate) const BAD: CommandError =
    CommandError::Unauthenticated("the credential is not valid, or no longer");

/// What a request carried to say who is asking.
#[derive(Debug, Clone, Copy, Default)]
pub struct Credential<'a> {
    /// Of `Authorization: Bearer`: an access token or an API key.
    pub bearer: Option<&'a str>,
    /// Of `X-API-Key`.
    pub api_key: Option<&'a str>,
    /// Of `Weft-Tenant`: a slug, which chooses among the memberships of a session's user.
    pub tenant: Option<&'a str>,
    /// Of `Weft-On-Behalf-Of`: the id or e-mail address of a user whom a service key acts for.
    pub on_behalf_of: Option<&'a str>,
}

impl Authority {
    /// Who is asking; `None` where the request carried no credential at all.
    ///
    /// # Errors
    /// [`CommandError::Unauthenticated`] for a credential that is unknown, forged, run out, ended or its user's no longer, which
    /// are one answer; [`CommandError::Forbidden`] where it may not act in the tenant that was named, or for another; what the
    /// database says.
    pub async fn identify(
        &self,
        credential: Credential<'_>,
    ) -> Result<Option<Identity>, CommandError> {
        let text = match (credential.bearer, credential.api_key) {
            // Never ignored: whoever sends it means to be somebody else.
            (None, None) if credential.on_behalf_of.is_some() => {
                return Err(CommandError::Forbidden(None));
            }
            (None, None) => return Ok(None),
            (Some(one), None) => one,
            (None, Some(key)) => {
                // An access token does not pass for a key.
                if !key.starts_with("weft_") {
                    return Err(BAD);
                }
                key
            }
            (Some(one), Some(other)) if one == other => one,
            (Some(_), Some(_)) => {
                return Err(CommandError::Unauthenticated("two different credentials"));
            }
        };
        let carried = digest(
            &[
                text.as_bytes(),
                b"\0",
                credential.tenant.unwrap_or_default().as_bytes(),
                b"\0",
                credential.on_behalf_of.unwrap_or_default().as_bytes(),
            ]
            .concat(),
        );
        let at = self.0.clock.instant();
        let kept = self.0.cache.get(&carried, at);
        let identity = match kept {
            Some(identity) => identity,
            None => {
                let identity = if text.starts_with("weft_") {
                    let by_itself = self.by_key(text, credential.tenant, at).await?;
                    match credential.on_behalf_of {
                        Some(whom) => self.on_behalf(text, &by_itself, whom, at).await?,
                        None => by_itself,
                    }
                } else if credential.on_behalf_of.is_some() {
                    return Err(CommandError::Forbidden(None));
                } else {
                    self.by_token(text, credential.tenant, at).await?
                };
                self.0.cache.put(carried, identity.clone());
                identity
            }
        };
        if identity
            .expires_at()
            .is_some_and(|at| at <= self.0.clock.now())
        {
            return Err(BAD);
        }
        Ok(Some(identity))
    }

    async fn by_key(
        &self,
        text: &str,
        tenant: Option<&str>,
        read_at: BootInstant,
    ) -> Result<Identity, CommandError> {
        if !api_keys::is_well_formed(text) {
            return Err(BAD);
        }
        let now = self.0.clock.now();
        let standing = of_key(SCOPE, self.0.db.reader(SCOPE), &digest(text.as_bytes())).await?;
        let standing = standing
            .filter(|standing| standing.credential_is_good(now))
            .ok_or(BAD)?;
        let expires_at = standing.key.as_ref().and_then(|key| key.expires_at);
        let seen = standing.key.as_ref().and_then(|key| key.last_used_at);
        let identity = Identity::of(standing, expires_at, read_at).ok_or(BAD)?;
        if tenant.is_some_and(|slug| slug != identity.tenant().slug) {
            return Err(CommandError::Forbidden(None));
        }
        self.0.watched.seen.note(&identity, seen, now);
        Ok(identity)
    }

    async fn by_token(
        &self,
        text: &str,
        tenant: Option<&str>,
        read_at: BootInstant,
    ) -> Result<Identity, CommandError> {
        let told = |error: tokens::TokenError| {
            tracing::debug!(%error, "an access token was refused");
            BAD
        };
        let key = self
            .verifying_key(tokens::kid(text).map_err(told)?)
            .await?
            .ok_or(BAD)?;
        let now = self.0.clock.now();
        let access =
            tokens::verify(text, key.verifier(), &self.0.config.issuer, now).map_err(told)?;
        let named = match tenant {
            // What can be no slug is no tenant of his.
            Some(slug) if input::slug(&[], slug).is_err() => {
                return Err(CommandError::Forbidden(None));
            }
            Some(slug) => InTenant::Slug(slug),
            None => InTenant::Id(access.tenant),
        };
        let standing = of_session(SCOPE, self.0.db.reader(SCOPE), access.session, named).await?;
        let standing = standing
            .filter(|standing| {
                standing.credential_is_good(now)
                    && standing.user.is_active
                    && standing.user.id == access.user
            })
            .ok_or(BAD)?;
        let session = standing.session.clone().ok_or(BAD)?;
        let missing = if tenant.is_some() {
            CommandError::Forbidden(None)
        } else {
            BAD
        };
        let identity = Identity::of(
            standing,
            Some(access.expires_at.min(session.ends_at)),
            read_at,
        )
        .ok_or(missing)?;
        self.0
            .watched
            .seen
            .note(&identity, Some(session.last_seen_at), now);
        if access.rotation == session.rotation && session.used_rotation < session.rotation {
            self.0.watched.seen.note_used(session.id, session.rotation);
        }
        Ok(identity)
    }

    /// The same asker as he stands at this moment, where `identity` was established a while ago: at the beginning of a socket, say.
    ///
    /// # Errors
    /// As [`Authority::identify`]: it has ended, or its user may no longer act in the tenant.
    pub async fn again(&self, identity: &Identity) -> Result<Identity, CommandError> {
        let expires_at = identity.expires_at();
        if expires_at.is_some_and(|at| at <= self.0.clock.now()) {
            return Err(BAD);
        }
        self.still(identity).await
    }

    /// The same, also when the access token has run out: for what was begun by it and goes on, where somebody else sees to its
    /// end. A connection whose token was renewed meanwhile goes on with what was begun by the old one.
    ///
    /// # Errors
    /// As [`Authority::again`], less that.
    pub async fn still(&self, identity: &Identity) -> Result<Identity, CommandError> {
        if identity.is_fresh(self.0.clock.instant()) {
            return Ok(identity.clone());
        }
        self.stand(identity).await
    }

    /// [`Authority::still`], past what is kept for two seconds: for somebody who is told that he himself is another than before,
    /// and is to be told what follows as that.
    ///
    /// # Errors
    /// As [`Authority::still`].
    pub async fn afresh(&self, identity: &Identity) -> Result<Identity, CommandError> {
        self.forget_user(identity.user().id);
        self.stand(identity).await
    }

    async fn stand(&self, identity: &Identity) -> Result<Identity, CommandError> {
        let (at, now) = (self.0.clock.instant(), self.0.clock.now());
        let expires_at = identity.expires_at();
        let (user, tenant) = (identity.user().id, identity.tenant().id);
        let (kind, id) = match identity.id() {
            CredentialId::Session(id) => (b's', id.0),
            CredentialId::Key(id) => (b'k', id.0),
        };
        // Not a text that a request could carry: it holds bytes that are none.
        let expiry = expires_at.map_or(0, |at| at.timestamp_micros());
        let mut named = vec![0xff, kind];
        named.extend(id.as_bytes());
        named.extend(tenant.0.as_bytes());
        named.extend(user.0.as_bytes());
        named.extend(expiry.to_be_bytes());
        let named = digest(&named);
        if let Some(kept) = self.0.cache.get(&named, at) {
            return Ok(kept);
        }
        let db = self.0.db.reader(SCOPE);
        let standing = match identity.id() {
            CredentialId::Session(id) => of_session(SCOPE, db, id, InTenant::Id(tenant)).await?,
            CredentialId::Key(id) => of_user(SCOPE, db, user, tenant, Some(id)).await?,
        };
        let standing = standing
            .filter(|standing| standing.credential_is_good(now) && standing.user.id == user)
            .ok_or(BAD)?;
        let seen = match (&standing.session, &standing.key) {
            (Some(session), _) => Some(session.last_seen_at),
            (None, key) => key.as_ref().and_then(|key| key.last_used_at),
        };
        let identity = Identity::of(standing, expires_at, at).ok_or(BAD)?;
        self.0.watched.seen.note(&identity, seen, now);
        self.0.cache.put(named, identity.clone());
        Ok(identity)
    }

    /// Drops what is kept of a user who may do other things than before; what he has open notices within two seconds.
    pub(crate) fn forget_user(&self, user: UserId) {
        self.0.cache.forget_user(user);
    }

    /// Drops what is kept of a tenant that is another than before.
    pub(crate) fn forget_tenant(&self, tenant: TenantId) {
        self.0.cache.forget_tenant(tenant);
    }

    /// Drops what is kept of a credential that just ended, and ends what lives by it here.
    pub(crate) fn forget(&self, id: CredentialId) {
        self.0.cache.forget(id);
        self.0.watched.end(id);
    }
}

impl Authority {
    /// The scope that a run acts in at this moment: what its asker could do when he asked, less what he no longer can. `None`:
    /// nothing is left, and the run ends.
    ///
    /// # Errors
    /// The database can't be read.
    pub async fn scope_of_run(
        &self,
        tenant: TenantId,
        user: UserId,
        key: Option<ApiKeyId>,
        ceiling: Permissions,
    ) -> Result<Option<Scope>, DbErr> {
        let now = self.0.clock.now();
        let standing = of_user(SCOPE, self.0.db.reader(SCOPE), user, tenant, key).await?;
        let Some(standing) = standing.filter(|standing| standing.credential_is_good(now)) else {
            return Ok(None);
        };
        let Some((_, membership)) = standing.member() else {
            return Ok(None);
        };
        let role = membership.role;
        let now_allowed = standing
            .key
            .as_ref()
            .map_or(Permissions::of(role), |key| api_keys::effective(key, role));
        let rights = ceiling.and(now_allowed);
        let groups = standing.groups.clone();
        Ok((rights != Permissions::NONE)
            .then(|| Scope::new(tenant, user, role, rights, Principal::Run).in_groups(groups)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use adapters::clock::Clock;
    use entities::{CredentialKind, Permission, Role, membership, query::*, session, tenant, user};

    use super::*;
    use crate::testing::{House, SCOPE, a_key, personal, the_key};

    fn is_bad<T: std::fmt::Debug>(answer: Result<T, CommandError>) {
        match answer {
            Err(CommandError::Unauthenticated(text)) => {
                assert_eq!(text, "the credential is not valid, or no longer");
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn nothing_is_nobody_and_two_are_an_error() {
        let house = House::new().await;
        let signed_in = house.set_up().await;
        assert!(
            house
                .auth
                .identify(Credential::default())
                .await
                .unwrap()
                .is_none()
        );
        let token = signed_in.access_token.expose();
        let two = Credential {
            bearer: Some(token),
            api_key: Some("weft_pk_x"),
            ..Credential::default()
        };
        assert!(matches!(
            house.auth.identify(two).await,
            Err(CommandError::Unauthenticated("two different credentials"))
        ));
        let as_key = Credential {
            api_key: Some(token),
            ..Credential::default()
        };
        is_bad(house.auth.identify(as_key).await);
        for text in [
            "",
            "x",
            "weft_pk_x",
            "a.b.c",
            &"weft_".repeat(10_000),
            "é\0",
        ] {
            is_bad(house.identify(text).await);
        }
        for bearer in [None, Some(token)] {
            let other = Credential {
                bearer,
                on_behalf_of: Some("grace"),
                ..Credential::default()
            };
            assert!(matches!(
                house.auth.identify(other).await,
                Err(CommandError::Forbidden(None))
            ));
        }
        // another installation's token is nobody's
        let other = House::new().await;
        is_bad(
            house
                .identify(other.set_up().await.access_token.expose())
                .await,
        );
        assert!(house.identify(token).await.is_ok());
    }

    #[tokio::test]
    async fn a_key_has_its_rights_less_what_its_owner_lost() {
        let house = House::new().await;
        let scope = house.set_up().await.identity.scope().clone();
        let (row, secret) = a_key(&house, &scope).await;
        assert_eq!(row.prefix, secret.expose()[..12]);
        let by = Credential {
            api_key: Some(secret.expose()),
            ..Credential::default()
        };
        let identity = house.auth.identify(by).await.unwrap().unwrap();
        assert_eq!(
            (identity.key(), identity.session(), identity.credential()),
            (Some(row.id), None, CredentialKind::PersonalKey)
        );
        for lacking in [
            Permission::TenantManage,
            Permission::MembersManage,
            Permission::AuditRead,
            Permission::PlatformManage,
        ] {
            assert!(!identity.scope().may(lacking), "{lacking:?}");
        }
        assert!(identity.scope().may(Permission::ModelsManage));
        assert_eq!(
            house.identify(secret.expose()).await.unwrap().scope(),
            identity.scope(),
            "as a bearer too"
        );

        membership::Entity::change_in(&scope)
            .col_expr(membership::Column::Role, Expr::value("MEMBER"))
            .exec(house.db.owner(SCOPE))
            .await
            .unwrap();
        house.clock.advance(Duration::from_secs(2));
        let identity = house.identify(secret.expose()).await.unwrap();
        assert_eq!(identity.scope().role(), Some(Role::Member));
        assert_eq!(
            identity.scope().permissions(),
            Permissions::of(Role::Member)
        );
    }

    #[tokio::test]
    async fn a_revoked_or_expired_key_is_an_unknown_one() {
        let house = House::new().await;
        let scope = house.set_up().await.identity.scope().clone();
        let replica = house.replica();
        let (row, secret) = a_key(&house, &scope).await;
        let by = Credential {
            bearer: Some(secret.expose()),
            ..Credential::default()
        };
        assert!(house.auth.identify(by).await.is_ok() && replica.identify(by).await.is_ok());
        house.auth.revoke_api_key(&scope, row.id).await.unwrap();
        is_bad(house.auth.identify(by).await);
        house.clock.advance(Duration::from_millis(1_999));
        assert!(
            replica.identify(by).await.is_ok(),
            "kept there for two seconds"
        );
        house.clock.advance(Duration::from_millis(1));
        is_bad(replica.identify(by).await);
        house
            .auth
            .revoke_api_key(&scope, row.id)
            .await
            .expect("again is nothing new");
        let unknown = house
            .auth
            .revoke_api_key(&scope, ApiKeyId(uuid::Uuid::nil()))
            .await;
        assert!(matches!(unknown, Err(CommandError::Refused(_))));

        let soon = house.clock.now() + chrono::TimeDelta::seconds(1);
        let (_, secret) = the_key(&house, &scope, personal(None, Some(soon))).await;
        assert_eq!(
            house.identify(secret.expose()).await.unwrap().expires_at(),
            Some(soon)
        );
        house.clock.advance(Duration::from_secs(1));
        is_bad(house.identify(secret.expose()).await);
    }

    #[tokio::test]
    async fn the_tenant_is_chosen_among_memberships() {
        let house = House::new().await;
        let signed_in = house.set_up().await;
        let first = &signed_in.identity;
        let db = house.db.owner(SCOPE);
        let other = TenantId(uuid::Uuid::from_u128(1));
        tenant::Entity::add(
            db,
            tenant::Model {
                id: other,
                slug: "other".into(),
                ..first.tenant().clone()
            },
        )
        .await
        .unwrap();
        let (_, key) = a_key(&house, first.scope()).await;
        // Ada looks after the installation: she may look at the tenant, and at nothing in it.
        let visiting = Credential {
            bearer: Some(signed_in.access_token.expose()),
            tenant: Some("other"),
            ..Credential::default()
        };
        let visitor = house.auth.identify(visiting).await.unwrap().unwrap();
        assert!(visitor.membership().is_none());
        let (role, rights) = (visitor.scope().role(), visitor.scope().permissions());
        assert_eq!(role, None);
        assert_eq!(
            rights.iter().collect::<Vec<_>>(),
            [Permission::PlatformManage]
        );
        user::Entity::change_anywhere(SCOPE)
            .col_expr(user::Column::IsPlatformAdministrator, Expr::value(false))
            .exec(db)
            .await
            .unwrap();
        house.clock.advance(Duration::from_secs(2));
        let to = async |bearer: &str, tenant: &str| {
            house
                .auth
                .identify(Credential {
                    bearer: Some(bearer),
                    tenant: Some(tenant),
                    ..Credential::default()
                })
                .await
                .map(Option::unwrap)
        };
        let (token, key) = (signed_in.access_token.expose(), key.expose());
        for elsewhere in ["other", "nowhere", "Not A Slug", "nul\0"] {
            assert!(
                matches!(
                    to(token, elsewhere).await,
                    Err(CommandError::Forbidden(None))
                ),
                "{elsewhere}"
            );
            assert!(
                matches!(to(key, elsewhere).await, Err(CommandError::Forbidden(None))),
                "{elsewhere}"
            );
        }
        let there = membership::Model {
            id: entities::MembershipId(uuid::Uuid::from_u128(2)),
            tenant_id: other,
            role: Role::Member,
            ..first.membership().unwrap().clone()
        };
        membership::Entity::add(db, there).await.unwrap();
        let identity = to(token, "other").await.unwrap();
        assert_eq!(
            (identity.scope().tenant(), identity.scope().role()),
            (other, Some(Role::Member))
        );
        assert!(matches!(
            to(key, "other").await,
            Err(CommandError::Forbidden(None))
        ));
        assert_eq!(
            to(token, "ada-s-looms").await.unwrap().scope().role(),
            first.scope().role()
        );
        assert_eq!(
            to(key, "ada-s-looms").await.unwrap().scope().tenant(),
            first.scope().tenant()
        );
    }

    #[tokio::test]
    async fn what_ends_a_session() {
        let house = House::new().await;
        let signed_in = house.set_up().await;
        let token = signed_in.access_token.expose();
        let db = house.db.owner(SCOPE);
        let seen = async || {
            house.clock.advance(Duration::from_secs(2));
            house.identify(token).await
        };
        assert!(seen().await.is_ok());
        user::Entity::change_anywhere(SCOPE)
            .col_expr(user::Column::IsActive, Expr::value(false))
            .exec(db)
            .await
            .unwrap();
        is_bad(seen().await);
        user::Entity::change_anywhere(SCOPE)
            .col_expr(user::Column::IsActive, Expr::value(true))
            .exec(db)
            .await
            .unwrap();
        assert!(seen().await.is_ok());
        let ended = Some(house.clock.now());
        session::Entity::change_anywhere(SCOPE)
            .col_expr(session::Column::EndedAt, Expr::value(ended))
            .exec(db)
            .await
            .unwrap();
        is_bad(seen().await);
    }

    #[tokio::test]
    async fn who_asked_before_asks_again_as_he_is_now() {
        let house = House::new().await;
        let signed_in = house.set_up().await;
        let scope = signed_in.identity.scope().clone();
        let (_, key) = a_key(&house, &scope).await;
        let by_session = house
            .identify(signed_in.access_token.expose())
            .await
            .unwrap();
        let by_key = house.identify(key.expose()).await.unwrap();
        membership::Entity::change_in(&scope)
            .col_expr(membership::Column::Role, Expr::value("MEMBER"))
            .exec(house.db.owner(SCOPE))
            .await
            .unwrap();
        for identity in [&by_session, &by_key] {
            let kept = house.auth.again(identity).await.unwrap();
            assert_eq!(kept.scope(), identity.scope(), "for two seconds");
        }
        house.clock.advance(Duration::from_secs(2));
        for identity in [&by_session, &by_key] {
            let now = house.auth.again(identity).await.unwrap();
            assert_eq!(now.scope().role(), Some(Role::Member));
            assert_eq!(now.expires_at(), identity.expires_at());
            assert_eq!(now.acting(), identity.acting());
        }
        house.clock.advance(Duration::from_secs(3_700));
        is_bad(house.auth.again(&by_session).await);
        assert!(house.auth.still(&by_session).await.is_ok());
        house.auth.sign_out(&scope, true).await.unwrap();
        is_bad(house.auth.again(&by_session).await);
        is_bad(house.auth.still(&by_session).await);
        assert!(house.auth.again(&by_key).await.is_ok());
    }

    #[tokio::test]
    async fn an_access_token_runs_out_also_where_it_is_kept() {
        let house = House::new().await;
        let token = house.set_up().await.access_token;
        house.clock.advance(Duration::from_secs(3604));
        assert!(house.identify(token.expose()).await.is_ok());
        house.clock.advance(Duration::from_secs(1));
        is_bad(house.identify(token.expose()).await);
    }

    #[tokio::test]
    async fn replicas_believe_each_others_tokens() {
        let house = House::new().await;
        let replica = house.replica();
        let (one, two) = tokio::join!(house.auth.signing_key(), replica.signing_key());
        assert_eq!(
            one.unwrap().signer().unwrap().0,
            two.unwrap().signer().unwrap().0,
            "one key, whoever came first"
        );
        let token = house.set_up().await.access_token;
        let by = Credential {
            bearer: Some(token.expose()),
            ..Credential::default()
        };
        assert!(replica.identify(by).await.is_ok());
        let jwks = replica.jwks().await.unwrap();
        assert_eq!(jwks["keys"].as_array().unwrap().len(), 1);
        assert_eq!(jwks["keys"][0]["crv"], "Ed25519");
        assert!(jwks["keys"][0].get("d").is_none());
    }

    #[tokio::test]
    async fn a_run_has_what_is_left() {
        let house = House::new().await;
        let scope = house.set_up().await.identity.scope().clone();
        let (row, _) = a_key(&house, &scope).await;
        let all = Permissions::of(Role::Owner);
        let left = async |key, ceiling| {
            house
                .auth
                .scope_of_run(scope.tenant(), scope.user(), key, ceiling)
                .await
                .unwrap()
        };
        let run = left(None, all.with(Permission::PlatformManage))
            .await
            .unwrap();
        assert_eq!((run.permissions(), run.principal()), (all, Principal::Run));
        let use_only = Permissions::NONE.with(Permission::AgentsUse);
        assert_eq!(left(None, use_only).await.unwrap().permissions(), use_only);
        assert_eq!(
            left(Some(row.id), all).await.unwrap().permissions(),
            row.permissions
        );
        assert!(
            left(Some(row.id), Permissions::NONE.with(Permission::AuditRead))
                .await
                .is_none()
        );
        assert!(left(Some(ApiKeyId(uuid::Uuid::nil())), all).await.is_none());
        house.auth.revoke_api_key(&scope, row.id).await.unwrap();
        assert!(left(Some(row.id), all).await.is_none());
        let elsewhere = house
            .auth
            .scope_of_run(TenantId(uuid::Uuid::nil()), scope.user(), None, all)
            .await
            .unwrap();
        assert!(elsewhere.is_none());
        let gone = Some(house.clock.now());
        membership::Entity::change_in(&scope)
            .col_expr(membership::Column::EndedAt, Expr::value(gone))
            .exec(house.db.owner(SCOPE))
            .await
            .unwrap();
        assert!(left(None, all).await.is_none());
    }
}
