//! Signing in by e-mail address and password.
//!
//! Unknown address, wrong password, deactivated account, no membership left: one answer, after the same work.

use adapters::sealing::Secret;
use chrono::{DateTime, TimeDelta, Utc};
use entities::{
    CommandError, CredentialKind, SessionId, SystemScope, Tx, UserId, input, known_address,
    membership,
    query::*,
    standing::{Standing, groups_of, memberships_of},
    tenant, user,
};

use crate::{
    Authority, RequestContext, SignedIn, attempts, audit, passwords, sessions,
    set_up::{EMAIL, email_key},
};

const SCOPE: SystemScope = SystemScope::of("sign-in");
pub(crate) const WRONG: CommandError =
    CommandError::Unauthenticated("wrong e-mail address or password");

/// An address that was not signed in from for this long is no longer known.
const KNOWN_FOR: TimeDelta = TimeDelta::days(90);

/// What somebody signs in with.
#[derive(Debug, Clone)]
pub struct SignIn {
    /// In any case of letters.
    pub email: String,
    /// The password.
    pub password: Secret,
    /// The slug of a tenant; left out: the one last used.
    pub tenant: Option<String>,
}

/// What an attempt is counted by.
#[derive(Clone)]
struct Keys {
    account: Vec<u8>,
    address: Option<Vec<u8>>,
}

impl Authority {
    /// Begins a session.
    ///
    /// # Errors
    /// [`CommandError::Unauthenticated`] for whatever is wrong; [`CommandError::RateLimited`] after ten failures of an account or
    /// address within a minute, or where too many passwords wait to be hashed; refusals of what can be nobody's.
    pub async fn sign_in(
        &self,
        input: SignIn,
        context: RequestContext,
    ) -> Result<SignedIn, CommandError> {
        input::text(&["input", "email"], &input.email, EMAIL)?;
        passwords::possible(&["input", "password"], &input.password)?;
        if let Some(slug) = &input.tenant {
            input::slug(&["input", "tenant"], slug)?;
        }
        self.signing_key().await?;
        let email = email_key(&input.email);
        let keys = Keys {
            account: attempts::account_key(&self.0.keyring, &email),
            address: context
                .address
                .map(|address| attempts::address_key(&self.0.keyring, address)),
        };
        let (counted, slug) = (keys.clone(), input.tenant.clone());
        let account = self
            .command(move |tx, now| {
                Box::pin(async move {
                    let account = find(tx, &email, slug.as_deref()).await?;
                    let exempt = knows(tx, account.as_ref(), counted.address.as_deref()).await?;
                    attempts::count(
                        tx,
                        Some(&counted.account),
                        counted.address.as_deref(),
                        exempt,
                        now,
                    )
                    .await?;
                    Ok(account)
                })
            })
            .await?;
        let hash = account
            .as_ref()
            .and_then(|account| account.password_hash.clone());
        let right = self.0.passwords.verify(input.password, hash).await?;
        let Some(account) = account.filter(|account| right && account.is_active) else {
            return Err(WRONG);
        };
        let session = SessionId(self.0.clock.uuid());
        let (tenant, clock) = (input.tenant, self.0.clock.clone());
        let standing = self
            .command(move |tx, now| {
                Box::pin(async move {
                    let address = context.address;
                    let standing = begin(tx, account, tenant, session, keys, context, now).await?;
                    audit::signed_in(tx, &clock, now, &standing, "signIn", address).await?;
                    Ok(standing)
                })
            })
            .await?;
        self.issue(standing).await
    }
}

/// The account that an address names: one managed by the tenant that was named, else a free one.
async fn find(
    tx: &Tx,
    email: &str,
    slug: Option<&str>,
) -> Result<Option<user::Model>, CommandError> {
    let by_email = || user::Entity::anywhere(SCOPE).filter(user::Column::EmailKey.eq(email));
    if let Some(slug) = slug {
        let tenant = tenant::Entity::anywhere(SCOPE)
            .filter(tenant::Column::Slug.eq(slug))
            .one(&**tx)
            .await?;
        // Asked also where there is no such tenant: the work is the same.
        let tenant = tenant.map_or(uuid::Uuid::nil(), |tenant| tenant.id.0);
        let managed = by_email()
            .filter(user::Column::ManagedTenantId.eq(tenant))
            .one(&**tx)
            .await?;
        if managed.is_some() {
            return Ok(managed);
        }
    }
    Ok(by_email()
        .filter(user::Column::ManagedTenantId.is_null())
        .one(&**tx)
        .await?)
}

/// Whether the account signed in from the address before.
pub(crate) async fn knows(
    tx: &Tx,
    account: Option<&user::Model>,
    address: Option<&[u8]>,
) -> Result<bool, CommandError> {
    let account = account.map_or(UserId(uuid::Uuid::nil()), |account| account.id);
    let known = known_address::Entity::anywhere(SCOPE)
        .filter(known_address::Column::UserId.eq(account))
        .filter(known_address::Column::AddressKey.eq(address.unwrap_or_default().to_vec()))
        .one(&**tx)
        .await?;
    Ok(known.is_some())
}

/// The password was right: the session, unless there is no tenant for it or something changed meanwhile.
async fn begin(
    tx: &Tx,
    account: user::Model,
    slug: Option<String>,
    session: SessionId,
    keys: Keys,
    context: RequestContext,
    now: DateTime<Utc>,
) -> Result<Standing, CommandError> {
    let mut memberships = memberships_of(SCOPE, &**tx, account.id).await?.into_iter();
    let (membership, tenant) = memberships
        .find(|(_, tenant)| slug.as_ref().is_none_or(|slug| *slug == tenant.slug))
        .ok_or(WRONG)?;
    attempts::forgive(tx, &keys.account, keys.address.as_deref(), now).await?;
    if let Some(address_key) = keys.address {
        known_address::Entity::renew(
            SCOPE,
            &**tx,
            known_address::Model {
                user_id: account.id,
                address_key,
                at: now,
            },
        )
        .await?;
        known_address::Entity::delete_anywhere(SCOPE)
            .filter(known_address::Column::UserId.eq(account.id))
            .filter(known_address::Column::At.lt(now - KNOWN_FOR))
            .exec(&**tx)
            .await?;
    }
    membership::Entity::change_anywhere(SCOPE)
        .col_expr(membership::Column::LastUsedAt, Expr::value(now))
        .col_expr(membership::Column::LastSeenAt, Expr::value(now))
        .filter(membership::Column::Id.eq(membership.id))
        .exec(&**tx)
        .await?;
    // Locked, so that no session begins by a password that is being changed at this moment; after the membership, in the order
    // in which whoever else holds both takes them.
    let current = user::Entity::anywhere(SCOPE)
        .filter(user::Column::Id.eq(account.id))
        .lock_exclusive()
        .one(&**tx)
        .await?;
    let account = current
        .filter(|now| now.is_active && now.password_hash == account.password_hash)
        .ok_or(WRONG)?;
    user::Entity::change_anywhere(SCOPE)
        .col_expr(user::Column::LastSeenAt, Expr::value(now))
        .filter(user::Column::Id.eq(account.id))
        .exec(&**tx)
        .await?;
    let session = sessions::begin(
        tx,
        session,
        account.id,
        tenant.id,
        CredentialKind::PasswordSession,
        &context,
        now,
    )
    .await?;
    Ok(Standing {
        user: account,
        session: Some(session),
        key: None,
        groups: groups_of(&**tx, &membership).await?,
        tenant: Some(tenant),
        membership: Some(membership),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use entities::{TenantId, session, sign_in_failure};

    use super::*;
    use crate::testing::{House, PASSWORD, at_the_machine};

    fn with(email: &str, password: &str, tenant: Option<&str>) -> SignIn {
        SignIn {
            email: email.into(),
            password: Secret::new(password),
            tenant: tenant.map(str::to_owned),
        }
    }

    fn from(address: &str) -> RequestContext {
        RequestContext {
            address: Some(address.parse().unwrap()),
            ..at_the_machine()
        }
    }

    #[tokio::test]
    async fn who_gets_in() {
        let house = House::new().await;
        house.set_up().await;
        for (email, password, tenant, gets_in) in [
            ("ada@example.com", PASSWORD, None, true),
            (" ADA@example.COM ", PASSWORD, Some("ada-s-looms"), true),
            ("ada@example.com", PASSWORD, Some("elsewhere"), false),
            ("ada@example.com", "weaving-by-day", None, false),
            ("ada@example.com", "", None, false),
            ("grace@example.com", PASSWORD, None, false),
            ("", PASSWORD, None, false),
        ] {
            let answer = house
                .auth
                .sign_in(with(email, password, tenant), from("192.0.2.1"))
                .await;
            match answer {
                Ok(signed_in) => {
                    assert!(gets_in, "{email} {password}");
                    assert_eq!(
                        house
                            .identify(signed_in.access_token.expose())
                            .await
                            .unwrap()
                            .scope(),
                        signed_in.identity.scope()
                    );
                }
                Err(CommandError::Unauthenticated(text)) => {
                    assert!(!gets_in, "{email} {password}");
                    assert_eq!(text, "wrong e-mail address or password");
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        for impossible in [
            with("a\0@b", PASSWORD, None),
            with("a@b", "nul\0", None),
            with("a@b", PASSWORD, Some("Not A Slug")),
        ] {
            let refused = house.auth.sign_in(impossible, from("192.0.2.1")).await;
            assert!(matches!(refused, Err(CommandError::Refused(_))));
        }
        let sessions = session::Entity::anywhere(SCOPE)
            .all(house.db.reader(SCOPE))
            .await
            .unwrap();
        assert_eq!(sessions.len(), 3, "one of the set-up, two of these");
    }

    #[tokio::test]
    async fn an_inactive_account_membership_or_tenant_is_the_same_answer() {
        let house = House::new().await;
        let scope = house.set_up().await.identity.scope().clone();
        let db = house.db.owner(SCOPE);
        let answer = async || {
            house
                .auth
                .sign_in(with("ada@example.com", PASSWORD, None), from("192.0.2.1"))
                .await
        };
        for active in [false, true] {
            user::Entity::change_anywhere(SCOPE)
                .col_expr(user::Column::IsActive, Expr::value(active))
                .exec(db)
                .await
                .unwrap();
            assert_eq!(answer().await.is_ok(), active);
        }
        for active in [false, true] {
            membership::Entity::change_in(&scope)
                .col_expr(membership::Column::IsActive, Expr::value(active))
                .exec(db)
                .await
                .unwrap();
            assert_eq!(answer().await.is_ok(), active);
        }
        tenant::Entity::change_anywhere(SCOPE)
            .col_expr(tenant::Column::IsActive, Expr::value(false))
            .exec(db)
            .await
            .unwrap();
        assert!(matches!(
            answer().await,
            Err(CommandError::Unauthenticated(
                "wrong e-mail address or password"
            ))
        ));
    }

    #[tokio::test]
    async fn the_tenant_last_used_is_chosen_and_managed_accounts_come_first() {
        let house = House::new().await;
        let first = house.set_up().await.identity;
        let db = house.db.owner(SCOPE);
        let other = TenantId(uuid::Uuid::from_u128(1));
        let now = first.tenant().created_at;
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
        let there = membership::Model {
            id: entities::MembershipId(uuid::Uuid::from_u128(2)),
            tenant_id: other,
            last_used_at: Some(now - TimeDelta::days(1)),
            ..first.membership().unwrap().clone()
        };
        membership::Entity::add(db, there).await.unwrap();
        let into = async |tenant: Option<&str>, password: &str| {
            house.clock.advance(Duration::from_secs(1));
            let signed_in = house
                .auth
                .sign_in(with("ada@example.com", password, tenant), from("192.0.2.1"))
                .await;
            signed_in.map(|signed_in| {
                (
                    signed_in.identity.tenant().slug.clone(),
                    signed_in.identity.user().id,
                )
            })
        };
        let ada = first.user().id;
        assert_eq!(
            into(None, PASSWORD).await.unwrap(),
            ("ada-s-looms".into(), ada)
        );
        assert_eq!(
            into(Some("other"), PASSWORD).await.unwrap(),
            ("other".into(), ada)
        );
        assert_eq!(into(None, PASSWORD).await.unwrap(), ("other".into(), ada));

        let managed = user::Model {
            id: UserId(uuid::Uuid::from_u128(3)),
            managed_tenant_id: Some(other),
            password_hash: Some(
                house
                    .auth
                    .0
                    .passwords
                    .hash(Secret::new("weaving-elsewhere"))
                    .await
                    .unwrap(),
            ),
            ..first.user().clone()
        };
        let member = membership::Model {
            id: entities::MembershipId(uuid::Uuid::from_u128(4)),
            tenant_id: other,
            user_id: managed.id,
            ..first.membership().unwrap().clone()
        };
        user::Entity::add(db, managed.clone()).await.unwrap();
        membership::Entity::add(db, member).await.unwrap();
        assert_eq!(
            into(Some("other"), "weaving-elsewhere").await.unwrap(),
            ("other".into(), managed.id)
        );
        assert!(
            into(Some("other"), PASSWORD).await.is_err(),
            "there the address means the managed account"
        );
        assert!(
            into(None, "weaving-elsewhere").await.is_err(),
            "and nowhere else"
        );
        assert_eq!(into(None, PASSWORD).await.unwrap().1, ada);
    }

    #[tokio::test]
    async fn ten_failures_lock_an_account_but_not_for_whom_it_knows() {
        let house = House::new().await;
        house.set_up().await;
        let attempt = async |email: &str, password: &str, address: &str| {
            house
                .auth
                .sign_in(with(email, password, None), from(address))
                .await
        };
        attempt("ada@example.com", PASSWORD, "192.0.2.1")
            .await
            .unwrap();
        for email in ["ada@example.com", "nobody@example.com"] {
            for n in 0..10 {
                // each from an address of its own, so that it is the account that locks
                let wrong = attempt(email, "wrong", &format!("198.51.{}.{n}", email.len())).await;
                assert!(
                    matches!(wrong, Err(CommandError::Unauthenticated(_))),
                    "{wrong:?}"
                );
            }
            let locked = attempt(email, PASSWORD, "203.0.113.1").await;
            assert!(
                matches!(locked, Err(CommandError::RateLimited { retry_after }) if retry_after == Duration::from_secs(60)),
                "{locked:?}"
            );
        }
        attempt("ada@example.com", PASSWORD, "192.0.2.1")
            .await
            .expect("it knows this address");
        // which also ended the block
        attempt("ada@example.com", PASSWORD, "203.0.113.1")
            .await
            .unwrap();

        let mut waits = Vec::new();
        for _ in 0..4 {
            let Err(CommandError::RateLimited { retry_after }) =
                attempt("nobody@example.com", "wrong", "203.0.113.2").await
            else {
                panic!()
            };
            waits.push(retry_after.as_secs());
            house.clock.advance(retry_after);
            let wrong = attempt("nobody@example.com", "wrong", "203.0.113.3").await;
            assert!(
                matches!(wrong, Err(CommandError::Unauthenticated(_))),
                "{wrong:?}"
            );
        }
        assert_eq!(waits, [60, 120, 240, 480]);

        house.clock.advance(Duration::from_secs(3600));
        house.auth.look(true).await.unwrap();
        assert!(
            sign_in_failure::Entity::anywhere(SCOPE)
                .one(house.db.reader(SCOPE))
                .await
                .unwrap()
                .is_none(),
            "swept"
        );
    }

    #[tokio::test]
    async fn ten_failures_lock_an_address() {
        let house = House::new().await;
        house.set_up().await;
        for n in 0..10 {
            let context = from(&format!("2001:db8:1:2::{n}"));
            let wrong = house
                .auth
                .sign_in(with(&format!("{n}@example.com"), "wrong", None), context)
                .await;
            assert!(
                matches!(wrong, Err(CommandError::Unauthenticated(_))),
                "{wrong:?}"
            );
        }
        let right = || with("ada@example.com", PASSWORD, None);
        let locked = house
            .auth
            .sign_in(right(), from("2001:db8:1:2:ffff::"))
            .await;
        assert!(
            matches!(locked, Err(CommandError::RateLimited { .. })),
            "{locked:?}"
        );
        house
            .auth
            .sign_in(right(), from("2001:db8:1:3::"))
            .await
            .unwrap();
        house.clock.advance(Duration::from_secs(61));
        house
            .auth
            .sign_in(right(), from("2001:db8:1:2::"))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn right_passwords_do_not_add_up() {
        let house = House::new().await;
        house.set_up().await;
        for _ in 0..12 {
            house
                .auth
                .sign_in(with("ada@example.com", PASSWORD, None), from("192.0.2.1"))
                .await
                .unwrap();
        }
    }
}
