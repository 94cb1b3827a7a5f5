//! Setting an installation up: the first user, as owner of the first tenant. Works once.

use std::sync::Arc;

use adapters::sealing::Secret;
use chrono::{DateTime, Utc};
use entities::{
    CommandError, CredentialKind, DbErr, MembershipId, Permission, Permissions, Principal, Refusal,
    Role, Scope, SessionId, SystemScope, TenantId, Tx, UserId, UserKind,
    db::{Failure, failure},
    input, membership, set_up,
    standing::Standing,
    tenant, user,
};
use futures_util::future::BoxFuture;

use crate::{Authority, RequestContext, SignedIn, audit, passwords, sessions};

const SCOPE: SystemScope = SystemScope::of("set-up");

/// Characters of an e-mail address (RFC 5321, 4.5.3.1).
pub(crate) const EMAIL: usize = 320;

/// The first user and tenant.
#[derive(Debug, Clone)]
pub struct SetUp {
    /// What he signs in by.
    pub email: String,
    /// At least 10 characters.
    pub password: Secret,
    /// His name, at most 200 characters.
    pub name: String,
    /// The tenant's name, at most 200 characters.
    pub tenant_name: String,
    /// Asked for unless the request comes from the machine itself.
    pub token: Option<Secret>,
}

impl SetUp {
    fn check(&self) -> Result<(), CommandError> {
        let refusals: Vec<_> = [
            email(&["input", "email"], &self.email).err(),
            passwords::acceptable(&["input", "password"], &self.password).err(),
            input::filled(&["input", "name"], &self.name, input::NAME).err(),
            input::filled(&["input", "tenantName"], &self.tenant_name, input::NAME).err(),
        ]
        .into_iter()
        .flatten()
        .collect();
        if refusals.is_empty() {
            Ok(())
        } else {
            Err(CommandError::Refused(refusals))
        }
    }
}

/// Whether a text may be an e-mail address. Only a message that arrives proves one.
pub(crate) fn email(path: &[&str], text: &str) -> Result<(), Refusal> {
    input::filled(path, text, EMAIL)?;
    let parts = text
        .trim()
        .rsplit_once('@')
        .filter(|(local, domain)| !local.is_empty() && !domain.is_empty());
    if parts.is_none()
        || text
            .trim()
            .chars()
            .any(|letter| letter.is_whitespace() || letter.is_control())
    {
        return Err(Refusal::invalid(path, "email must be an e-mail address"));
    }
    Ok(())
}

/// What e-mail addresses are compared by.
pub(crate) fn email_key(email: &str) -> String {
    email.trim().to_lowercase()
}

impl Authority {
    /// Whether the first user still has to be made.
    ///
    /// # Errors
    /// The database can't be read.
    pub async fn needs_setup(&self) -> Result<bool, DbErr> {
        Ok(set_up::Entity::anywhere(SCOPE)
            .one(self.0.db.reader(SCOPE))
            .await?
            .is_none())
    }

    /// Makes the first user, the platform's administrator, as owner of the first tenant, and signs him in. `seed` adds to the
    /// tenant in the same transaction.
    ///
    /// # Errors
    /// Refusals of the input; a Conflict where it was done before; [`CommandError::Unauthenticated`] without the token where it
    /// is asked for.
    pub async fn set_up<F>(
        &self,
        new: SetUp,
        context: RequestContext,
        seed: F,
    ) -> Result<SignedIn, CommandError>
    where
        F: for<'c> FnOnce(&'c Tx, &'c Scope) -> BoxFuture<'c, Result<(), CommandError>>
            + Send
            + 'static,
    {
        if !self.needs_setup().await? {
            return Err(done_before());
        }
        if !self.may_set_up(new.token.as_ref(), &context) {
            return Err(CommandError::Unauthenticated(
                "the set-up token is missing or wrong; it is printed where the server was started",
            ));
        }
        new.check()?;
        let hash = self.0.passwords.hash(new.password.clone()).await?;
        // Before anything is true, so that nothing fails once it is.
        self.signing_key().await?;
        let first = self.first(&new, hash);
        let session = SessionId(self.0.clock.uuid());
        let (clock, address) = (self.0.clock.clone(), context.address);
        let standing = self
            .command(move |tx, now| {
                Box::pin(async move {
                    let mut standing = first.add(tx, now).await?;
                    let (user, tenant) = (
                        standing.user.id,
                        standing.tenant.as_ref().map(|tenant| tenant.id),
                    );
                    let tenant = tenant.ok_or_else(|| {
                        CommandError::Internal("the first tenant is not there".into())
                    })?;
                    let rights = Permissions::of(Role::Owner).with(Permission::PlatformManage);
                    let scope = Scope::new(
                        tenant,
                        user,
                        Role::Owner,
                        rights,
                        Principal::Session(session),
                    );
                    seed(tx, &scope).await?;
                    let session = sessions::begin(
                        tx,
                        session,
                        user,
                        tenant,
                        CredentialKind::PasswordSession,
                        &context,
                        now,
                    )
                    .await?;
                    standing.session = Some(session);
                    audit::signed_in(tx, &clock, now, &standing, "setUp", address).await?;
                    Ok(standing)
                })
            })
            .await?;
        self.issue(standing).await
    }

    /// The rows, as they will be.
    fn first(&self, new: &SetUp, password_hash: String) -> First {
        let now = self.0.clock.now();
        let tenant = self.0.clock.uuid();
        let (_, data_key) = self.0.keyring.new_data_key(tenant);
        let (tenant, user) = (TenantId(tenant), UserId(self.0.clock.uuid()));
        First {
            tenant: tenant::Model {
                id: tenant,
                slug: input::slug_of(&new.tenant_name, "tenant"),
                name: new.tenant_name.trim().to_owned(),
                currency: "USD".to_owned(),
                is_active: true,
                default_model_id: None,
                title_model_id: None,
                retention_days: None,
                max_concurrent_runs: None,
                data_key,
                served_at: now,
                created_at: now,
                updated_at: now,
            },
            user: user::Model {
                id: user,
                kind: UserKind::Person,
                name: new.name.trim().to_owned(),
                email: Some(new.email.trim().to_owned()),
                email_key: Some(email_key(&new.email)),
                password_hash: Some(password_hash),
                managed_tenant_id: None,
                is_email_proven: false,
                created_by_key_id: None,
                is_active: true,
                is_platform_administrator: true,
                last_seen_at: Some(now),
                created_at: now,
                updated_at: now,
            },
            membership: membership::Model {
                id: MembershipId(self.0.clock.uuid()),
                tenant_id: tenant,
                user_id: user,
                role: Role::Owner,
                is_active: true,
                last_used_at: Some(now),
                last_seen_at: Some(now),
                ended_at: None,
                created_at: now,
                updated_at: now,
            },
        }
    }
}

struct First {
    tenant: tenant::Model,
    user: user::Model,
    membership: membership::Model,
}

impl First {
    async fn add(self, tx: &Tx, now: DateTime<Utc>) -> Result<Standing, CommandError> {
        let row = set_up::Model {
            one: 1,
            tenant_id: self.tenant.id,
            user_id: self.user.id,
            at: now,
        };
        // First, so that the second of two who set up at once fails here.
        set_up::Entity::add(&**tx, row)
            .await
            .map_err(|error| match failure(&error) {
                Failure::Taken => done_before(),
                Failure::Transient | Failure::Permanent => error.into(),
            })?;
        tenant::Entity::add(&**tx, self.tenant.clone()).await?;
        user::Entity::add(&**tx, self.user.clone()).await?;
        membership::Entity::add(&**tx, self.membership.clone()).await?;
        Ok(Standing {
            user: self.user,
            session: None,
            key: None,
            tenant: Some(self.tenant),
            membership: Some(self.membership),
            groups: Arc::default(),
        })
    }
}

fn done_before() -> CommandError {
    Refusal::conflict(&["input"], "this installation is set up already", None).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{House, PASSWORD, at_the_machine, owner};

    #[test]
    fn e_mail_addresses() {
        for good in ["a@b", " ada@example.com ", "ö@ü.example", "\"a@b\"@c"] {
            assert!(email(&["email"], good).is_ok(), "{good}");
        }
        for bad in [
            "",
            " ",
            "a",
            "@b",
            "a@",
            "a b@c",
            "a@b\nc",
            "a\0@b",
            &format!("{}@b", "a".repeat(320)),
        ] {
            assert!(email(&["email"], bad).is_err(), "{bad:?}");
        }
        assert_eq!(email_key(" Ada@Example.COM "), "ada@example.com");
    }

    #[tokio::test]
    async fn the_first_user_is_owner_and_administrator() {
        let house = House::new().await;
        assert!(house.auth.needs_setup().await.unwrap());
        let signed_in = house
            .auth
            .set_up(owner(), at_the_machine(), |_, _| Box::pin(async { Ok(()) }))
            .await
            .unwrap();
        assert!(!house.auth.needs_setup().await.unwrap());
        let scope = signed_in.identity.scope();
        assert_eq!(scope.role(), Some(Role::Owner));
        assert!(scope.may(Permission::PlatformManage) && scope.may(Permission::TenantManage));
        assert_eq!(signed_in.identity.tenant().slug, "ada-s-looms");
        assert!(
            house
                .keyring
                .open_data_key(scope.tenant().0, &signed_in.identity.tenant().data_key)
                .is_ok()
        );
        let seen = house
            .identify(signed_in.access_token.expose())
            .await
            .unwrap();
        assert_eq!(seen.scope(), scope);
        assert_eq!(
            seen.expires_at().map(|at| at.timestamp()),
            Some(signed_in.expires_at.timestamp() + 5)
        );
    }

    #[tokio::test]
    async fn a_seed_that_fails_undoes_all() {
        let house = House::new().await;
        let seeded = house.auth.set_up(owner(), at_the_machine(), |_, scope| {
            assert_eq!(scope.role(), Some(Role::Owner));
            Box::pin(async { Err(Refusal::invalid(&["seed"], "no").into()) })
        });
        assert!(seeded.await.is_err());
        assert!(house.auth.needs_setup().await.unwrap());
        assert!(
            user::Entity::anywhere(SCOPE)
                .one(house.db.reader(SCOPE))
                .await
                .unwrap()
                .is_none()
        );
        house.set_up().await;
    }

    #[tokio::test]
    async fn of_two_at_once_one_wins() {
        let house = House::new().await;
        let one = house
            .auth
            .set_up(owner(), at_the_machine(), |_, _| Box::pin(async { Ok(()) }));
        let two = house
            .auth
            .set_up(owner(), at_the_machine(), |_, _| Box::pin(async { Ok(()) }));
        let (one, two) = tokio::join!(one, two);
        let (won, lost) = if one.is_ok() { (one, two) } else { (two, one) };
        assert!(won.is_ok());
        assert!(
            matches!(&lost, Err(CommandError::Refused(refusals)) if matches!(refusals[..], [Refusal::Conflict { .. }])),
            "{lost:?}"
        );
        let again = house
            .auth
            .set_up(owner(), at_the_machine(), |_, _| Box::pin(async { Ok(()) }))
            .await;
        assert!(
            matches!(&again, Err(CommandError::Refused(refusals)) if matches!(refusals[..], [Refusal::Conflict { .. }])),
            "{again:?}"
        );
    }

    #[tokio::test]
    async fn from_elsewhere_it_takes_the_token() {
        let house = House::new().await;
        let from_elsewhere = RequestContext {
            peer_loopback: false,
            ..at_the_machine()
        };
        let with = |token: Option<&str>| SetUp {
            token: token.map(Secret::new),
            ..owner()
        };
        for wrong in [
            None,
            Some(""),
            Some("guess"),
            Some(&*format!("{}x", house.auth.setup_token().expose())),
        ] {
            let refused = house
                .auth
                .set_up(with(wrong), from_elsewhere.clone(), |_, _| {
                    Box::pin(async { Ok(()) })
                })
                .await;
            assert!(
                matches!(refused, Err(CommandError::Unauthenticated(_))),
                "{wrong:?}"
            );
        }
        let token = house.auth.setup_token();
        assert_eq!(token.expose().len(), 43);
        house
            .auth
            .set_up(with(Some(token.expose())), from_elsewhere, |_, _| {
                Box::pin(async { Ok(()) })
            })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn refusals_name_every_field() {
        let house = House::new().await;
        let bad = SetUp {
            email: "nobody".into(),
            password: Secret::new("short"),
            name: " ".into(),
            tenant_name: String::new(),
            token: None,
        };
        let refused = house
            .auth
            .set_up(bad, at_the_machine(), |_, _| Box::pin(async { Ok(()) }))
            .await;
        assert!(
            matches!(&refused, Err(CommandError::Refused(refusals)) if refusals.len() == 4),
            "{refused:?}"
        );
        assert_ne!(PASSWORD, "short");
    }
}
