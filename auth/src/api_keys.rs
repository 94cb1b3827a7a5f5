//! API keys: their form, and how they are made and revoked.
//!
//! A key is `weft_pk_`, 43 characters of base 62 that hold 256 random bits, and six that hold a CRC-32 of what stands before, so
//! that a scanner knows one when it sees it and a mistyped one costs no look into the database. The row holds its SHA-256.

use adapters::sealing::{Secret, digest};
use chrono::{DateTime, Utc};
use entities::{
    ApiKeyId, ApiKeyKind, CommandError, MembershipId, Permission, Permissions, Principal, Refusal,
    Role, Scope, SessionId, UserId, UserKind, api_key, input, membership, query::*, user,
};
use events::Command;
use serde::{Deserialize, Serialize};

use crate::{Authority, base62, identity::CredentialId};

/// What personal keys begin with.
pub const PERSONAL_PREFIX: &str = "weft_pk_";
/// What service keys begin with.
pub const SERVICE_PREFIX: &str = "weft_sk_";

/// Characters that are shown to recognise a key by.
const SHOWN: usize = 12;
/// Characters of a key.
const LENGTH: usize = PERSONAL_PREFIX.len() + base62::width(32) + base62::width(4);

/// A key to make.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// Name shown to people, at most 200 characters.
    pub name: String,
    /// A SERVICE key has an account of its own, and stays when its maker goes; it is made by ADMIN or OWNER.
    pub kind: ApiKeyKind,
    /// The most that it may do; left out, of a PERSONAL one: what its maker may, without TENANT_MANAGE, MEMBERS_MANAGE and
    /// AUDIT_READ.
    pub permissions: Option<Permissions>,
    /// Whether it acts for EDITORs and MEMBERs of the tenant: a SERVICE key.
    pub may_impersonate: bool,
    /// And makes accounts for those that are not there: of a maker who manages members.
    pub may_create_users: bool,
    /// Left out: until it is revoked.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A key that was made.
#[derive(Debug, Serialize, Deserialize)]
pub struct CreatedKey {
    /// Its id.
    pub id: ApiKeyId,
    /// The key itself, the first time it is answered: it is nowhere else.
    #[serde(skip)]
    pub secret: Option<Secret>,
}

/// Whether a text has the form of an API key, the checksum included.
pub(crate) fn is_well_formed(text: &str) -> bool {
    if text.len() != LENGTH
        || !(text.starts_with(PERSONAL_PREFIX) || text.starts_with(SERVICE_PREFIX))
    {
        return false;
    }
    let Some((body, sum)) = text.split_at_checked(LENGTH - base62::width(4)) else {
        return false;
    };
    let random = body
        .get(PERSONAL_PREFIX.len()..)
        .and_then(base62::decode::<32>);
    random.is_some() && base62::decode::<4>(sum) == Some(crc32(body.as_bytes()).to_be_bytes())
}

fn write(prefix: &str, random: &[u8; 32]) -> Secret {
    let body = format!("{prefix}{}", base62::encode(random));
    let sum = base62::encode(&crc32(body.as_bytes()).to_be_bytes());
    Secret::new(body + &sum)
}

/// CRC-32 as in ISO 3309 and PNG.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            if sum & 1 == 1 {
                sum >> 1 ^ 0xEDB8_8320
            } else {
                sum >> 1
            }
        })
    })
}

/// Passwords, sessions and keys change by a session only: a key that leaked can't make another, nor undo its own end.
pub(crate) fn by_session(scope: &Scope) -> Result<SessionId, CommandError> {
    match scope.principal() {
        Principal::Session(id) => Ok(id),
        Principal::Key(_) | Principal::Run => Err(CommandError::Forbidden(None)),
    }
}

/// What a key gets where nothing is said.
fn usual(makers: Permissions) -> Permissions {
    [
        Permission::TenantManage,
        Permission::MembersManage,
        Permission::AuditRead,
        Permission::PlatformManage,
    ]
    .into_iter()
    .fold(makers, Permissions::without)
}

/// The least role that gives all of these rights.
fn least_role(permissions: Permissions) -> Role {
    [Role::Member, Role::Editor, Role::Admin]
        .into_iter()
        .find(|role| permissions.within(Permissions::of(*role)))
        .unwrap_or(Role::Owner)
}

/// What a key of a service must have.
fn check_service(scope: &Scope, new: &NewApiKey) -> Vec<Refusal> {
    let is_service = new.kind == ApiKeyKind::Service;
    let mut refusals = Vec::new();
    if is_service && scope.role() < Some(Role::Admin) {
        refusals.push(Refusal::forbidden(&["input", "kind"], None));
    }
    if new.may_impersonate && !is_service {
        let message = "mayImpersonate is for SERVICE keys";
        refusals.push(Refusal::invalid(&["input", "mayImpersonate"], message));
    }
    let path = &["input", "mayCreateUsers"];
    if new.may_create_users && !new.may_impersonate {
        refusals.push(Refusal::invalid(
            path,
            "mayCreateUsers goes with mayImpersonate",
        ));
    }
    if new.may_create_users && !scope.may(Permission::MembersManage) {
        refusals.push(Refusal::forbidden(path, Some(Permission::MembersManage)));
    }
    refusals
}

/// What a key gets, checked against its maker's rights.
fn granted(
    scope: &Scope,
    kind: ApiKeyKind,
    asked: Option<Permissions>,
) -> Result<Permissions, Refusal> {
    let path = &["input", "permissions"];
    let Some(asked) = asked else {
        return match kind {
            ApiKeyKind::Personal => Ok(usual(scope.permissions())),
            ApiKeyKind::Service => Err(Refusal::invalid(
                path,
                "permissions must be given for a SERVICE key",
            )),
        };
    };
    if asked.has(Permission::PlatformManage) {
        return Err(Refusal::invalid(path, "PLATFORM_MANAGE is on no key"));
    }
    if asked == Permissions::NONE {
        return Err(Refusal::invalid(path, "permissions must not be empty"));
    }
    match asked.iter().find(|&permission| !scope.may(permission)) {
        Some(missing) => Err(Refusal::forbidden(path, Some(missing))),
        None => Ok(asked),
    }
}

impl Authority {
    /// Makes an API key of the caller's in his tenant, and answers its id and the key itself, which is nowhere else from then on.
    ///
    /// # Errors
    /// Refusals of the input; [`CommandError::Forbidden`] where the caller came by a key.
    pub async fn create_api_key(
        &self,
        scope: &Scope,
        new: NewApiKey,
    ) -> Result<CreatedKey, CommandError> {
        by_session(scope)?;
        let now = self.0.clock.now();
        let mut refusals = Vec::new();
        refusals.extend(input::filled(&["input", "name"], &new.name, input::NAME).err());
        refusals.extend(check_service(scope, &new));
        if new.expires_at.is_some_and(|at| at <= now) {
            refusals.push(Refusal::invalid(
                &["input", "expiresAt"],
                "expiresAt must be in the future",
            ));
        }
        let permissions = match granted(scope, new.kind, new.permissions) {
            Ok(permissions) => permissions,
            Err(refusal) => {
                refusals.push(refusal);
                Permissions::NONE
            }
        };
        if !refusals.is_empty() {
            return Err(CommandError::Refused(refusals));
        }
        let (prefix, user) = match new.kind {
            ApiKeyKind::Personal => (PERSONAL_PREFIX, scope.user()),
            ApiKeyKind::Service => (SERVICE_PREFIX, UserId(self.0.clock.uuid())),
        };
        let secret = write(prefix, &self.random());
        let by = scope.clone();
        let row = api_key::Model {
            id: ApiKeyId(self.0.clock.uuid()),
            tenant_id: scope.tenant(),
            user_id: user,
            kind: new.kind,
            name: new.name,
            prefix: secret.expose()[..SHOWN].to_owned(),
            digest: digest(secret.expose().as_bytes()).to_vec(),
            permissions,
            may_impersonate: new.may_impersonate,
            may_create_users: new.may_create_users,
            expires_at: new.expires_at,
            revoked_at: None,
            last_used_at: None,
            created_at: now,
        };
        self.command_for(move |c| {
            Box::pin(async move {
                let id = row.id;
                c.about(id);
                if row.kind == ApiKeyKind::Service {
                    account(c, &by, &row).await?;
                }
                api_key::Entity::add(&**c.tx(), row).await?;
                Ok(CreatedKey {
                    id,
                    secret: Some(secret),
                })
            })
        })
        .await
    }

    /// Ends an API key of the caller's, or with MEMBERS_MANAGE one of somebody below him (an OWNER's also of another OWNER). One
    /// that has ended already stays as it is. Refused everywhere within five seconds, here at once.
    ///
    /// # Errors
    /// NotFound where the caller may not know of it; [`CommandError::Forbidden`] where he came by a key.
    pub async fn revoke_api_key(&self, scope: &Scope, id: ApiKeyId) -> Result<(), CommandError> {
        by_session(scope)?;
        let by = scope.clone();
        self.command_for(move |c| {
            Box::pin(async move {
                let (tx, now) = (c.tx(), c.now());
                let path = &["input", "id"];
                let key = api_key::Entity::in_tenant(&by)
                    .filter(api_key::Column::Id.eq(id))
                    .one(&**tx)
                    .await?;
                let visible =
                    key.filter(|key| key.user_id == by.user() || by.may(Permission::MembersManage));
                let key = visible.ok_or_else(|| Refusal::not_found(path, id))?;
                if key.user_id != by.user() {
                    let owner = membership::Entity::in_tenant(&by)
                        .filter(membership::Column::UserId.eq(key.user_id))
                        .one(&**tx)
                        .await?;
                    // Nobody acts on a role that is his own or above, but OWNER on OWNER.
                    if owner.is_some_and(|owner| {
                        Some(owner.role) >= by.role() && by.role() != Some(Role::Owner)
                    }) {
                        return Err(Refusal::forbidden(path, None).into());
                    }
                }
                api_key::Entity::change_in(&by)
                    .col_expr(api_key::Column::RevokedAt, Expr::value(now))
                    .filter(api_key::Column::Id.eq(id))
                    .filter(api_key::Column::RevokedAt.is_null())
                    .exec(&**tx)
                    .await?;
                Ok(())
            })
        })
        .await?;
        self.forget(CredentialId::Key(id));
        Ok(())
    }
}

/// The account of a service key, a member of the tenant with the least role that gives what the key may.
async fn account(c: &mut Command, by: &Scope, key: &api_key::Model) -> Result<(), CommandError> {
    let row = user::Model {
        id: key.user_id,
        kind: UserKind::Service,
        name: key.name.trim().to_owned(),
        email: None,
        email_key: None,
        password_hash: None,
        managed_tenant_id: Some(by.tenant()),
        is_email_proven: false,
        created_by_key_id: None,
        is_active: true,
        is_platform_administrator: false,
        last_seen_at: None,
        created_at: c.now(),
        updated_at: c.now(),
    };
    user::Entity::add(&**c.tx(), row).await?;
    let role = least_role(key.permissions);
    crate::members::joined(c, by.tenant(), key.user_id, role).await?;
    Ok(())
}

/// What a member may do by a key at this moment.
pub(crate) fn effective(key: &api_key::Model, role: Role) -> Permissions {
    key.permissions.and(Permissions::of(role))
}

/// By which membership a credential acts.
pub(crate) type Acting = (CredentialId, MembershipId);

#[cfg(test)]
mod tests {
    use adapters::clock::Clock;
    use entities::UserId;

    use super::*;
    use crate::testing::{House, a_key, personal, the_key};

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn forms() {
        for random in [[0; 32], [255; 32], [9; 32]] {
            let key = write(PERSONAL_PREFIX, &random);
            assert_eq!(key.expose().len(), 57);
            assert!(is_well_formed(key.expose()), "{}", key.expose());
            for at in 0..57 {
                let mut changed = key.expose().to_owned();
                let other = if changed.as_bytes()[at] == b'q' {
                    "r"
                } else {
                    "q"
                };
                changed.replace_range(at..=at, other);
                assert!(!is_well_formed(&changed), "{changed}");
            }
        }
        for text in [
            "",
            "weft_pk_",
            &"é".repeat(28),
            &"x".repeat(57),
            &format!("weft_pk_{}", "é".repeat(24) + "a"),
        ] {
            assert!(!is_well_formed(text), "{text}");
        }
    }

    #[tokio::test]
    async fn what_keys_are_made() {
        let house = House::new().await;
        let scope = house.set_up().await.identity.scope().clone();
        let some: Permissions = [Permission::AgentsUse, Permission::AuditRead]
            .into_iter()
            .collect();
        assert_eq!(
            the_key(&house, &scope, personal(Some(some), None))
                .await
                .0
                .permissions,
            some
        );
        let past = Some(house.clock.now());
        for refused in [
            NewApiKey {
                name: " ".into(),
                ..personal(None, None)
            },
            NewApiKey {
                kind: ApiKeyKind::Service,
                ..personal(None, None)
            },
            NewApiKey {
                may_impersonate: true,
                ..personal(Some(some), None)
            },
            NewApiKey {
                kind: ApiKeyKind::Service,
                may_create_users: true,
                ..personal(Some(some), None)
            },
            personal(None, past),
            personal(Some(Permissions::NONE), None),
            personal(Some(some.with(Permission::PlatformManage)), None),
        ] {
            let answer = house.auth.create_api_key(&scope, refused.clone()).await;
            assert!(
                matches!(answer, Err(CommandError::Refused(_))),
                "{refused:?}"
            );
        }
        let member = Scope::new(
            scope.tenant(),
            scope.user(),
            Role::Member,
            Permissions::of(Role::Member),
            scope.principal(),
        );
        let answer = house
            .auth
            .create_api_key(&member, personal(Some(some), None))
            .await;
        assert!(matches!(&answer, Err(CommandError::Refused(refusals))
            if matches!(refusals[..], [entities::Refusal::Forbidden { needs: Some(Permission::AuditRead), .. }])));

        let (row, secret) = a_key(&house, &scope).await;
        let by_key = house
            .identify(secret.expose())
            .await
            .unwrap()
            .scope()
            .clone();
        assert!(matches!(
            house
                .auth
                .create_api_key(&by_key, personal(None, None))
                .await,
            Err(CommandError::Forbidden(None))
        ));
        assert!(matches!(
            house.auth.revoke_api_key(&by_key, row.id).await,
            Err(CommandError::Forbidden(None))
        ));
    }

    #[tokio::test]
    async fn who_revokes_whose() {
        let house = House::new().await;
        let owner = house.set_up().await.identity;
        let (row, _) = a_key(&house, owner.scope()).await;
        let somebody = |role: Role| {
            Scope::new(
                owner.scope().tenant(),
                UserId(uuid::Uuid::nil()),
                role,
                Permissions::of(role),
                owner.scope().principal(),
            )
        };
        let of_member = house
            .auth
            .revoke_api_key(&somebody(Role::Member), row.id)
            .await;
        assert!(
            matches!(&of_member, Err(CommandError::Refused(r)) if matches!(r[..], [entities::Refusal::NotFound { .. }])),
            "{of_member:?}"
        );
        let of_admin = house
            .auth
            .revoke_api_key(&somebody(Role::Admin), row.id)
            .await;
        assert!(
            matches!(&of_admin, Err(CommandError::Refused(r)) if matches!(r[..], [entities::Refusal::Forbidden { .. }])),
            "{of_admin:?}"
        );
        house
            .auth
            .revoke_api_key(&somebody(Role::Owner), row.id)
            .await
            .unwrap();
    }
}
