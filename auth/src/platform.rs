//! Who looks after the whole installation: a flag of an account, in no role and on no key.

use entities::{
    CommandError, Permission, Refusal, Scope, SystemScope, Tx, UserId, UserKind, meta, query::*,
    user,
};
use events::{
    Command,
    audit::{Entry, INSTALLATION},
};

use crate::{Authority, api_keys::by_session};

const SCOPE: SystemScope = SystemScope::of("administrators of the platform");

impl Authority {
    /// Makes a person an administrator of the platform, or takes that back.
    ///
    /// # Errors
    /// [`CommandError::Forbidden`] where the caller is none, or came by a key; NotFound; a Conflict where none would be left, and
    /// for an account that a tenant manages.
    pub async fn set_platform_administrator(
        &self,
        scope: &Scope,
        id: UserId,
        is_one: bool,
    ) -> Result<UserId, CommandError> {
        by_session(scope)?;
        let needs = Permission::PlatformManage;
        if !scope.may(needs) {
            return Err(CommandError::Forbidden(Some(needs)));
        }
        self.command_for(move |c| {
            Box::pin(async move {
                set(c.tx(), id, is_one).await?;
                Ok(())
            })
        })
        .await?;
        self.forget_user(id);
        Ok(id)
    }

    /// The same by whoever stands at the machine, of the free account with this address.
    ///
    /// # Errors
    /// As [`Authority::set_platform_administrator`].
    pub async fn grant_platform(&self, email: &str, is_one: bool) -> Result<UserId, CommandError> {
        let key = crate::set_up::email_key(email);
        let email = email.to_owned();
        self.0
            .log
            .command::<_, CommandError, _>(move |c| {
                Box::pin(async move {
                    let account = user::Entity::anywhere(SCOPE)
                        .filter(user::Column::EmailKey.eq(key))
                        .filter(user::Column::ManagedTenantId.is_null())
                        .one(&**c.tx())
                        .await?
                        .ok_or_else(|| Refusal::not_found(&["email"], email.as_str()))?;
                    set(c.tx(), account.id, is_one).await?;
                    noted(c, account.id);
                    Ok(account.id)
                })
            })
            .await
    }
}

fn noted(c: &mut Command, id: UserId) {
    c.audit(Entry {
        tenant: INSTALLATION,
        actor: None,
        api_key: None,
        on_behalf_of: None,
        action: "admin grant-platform".into(),
        target: Some(id.to_string()),
        outcome: entities::AuditOutcome::Allowed,
        address: None,
        details: serde_json::json!({ "fields": ["isPlatformAdministrator"] }),
    });
}

async fn set(tx: &Tx, id: UserId, is_one: bool) -> Result<(), CommandError> {
    let path = &["input", "id"];
    // One after the other, so that the last is not taken away by two at once.
    meta::Entity::anywhere(SCOPE)
        .lock_exclusive()
        .one(&**tx)
        .await?;
    let account = user::Entity::anywhere(SCOPE)
        .filter(user::Column::Id.eq(id))
        .filter(user::Column::Kind.eq(UserKind::Person))
        .lock_exclusive()
        .one(&**tx)
        .await?
        .ok_or_else(|| Refusal::not_found(path, id))?;
    if is_one && account.managed_tenant_id.is_some() {
        let message = "an account that a tenant manages can't look after the installation: whoever administers the tenant could act by it";
        return Err(Refusal::conflict(path, message, None).into());
    }
    if !is_one {
        let others = user::Entity::anywhere(SCOPE)
            .filter(user::Column::IsPlatformAdministrator.eq(true))
            .filter(user::Column::IsActive.eq(true))
            .filter(user::Column::Id.ne(id))
            .one(&**tx)
            .await?;
        if others.is_none() {
            let message = "the installation must keep an administrator; name another one first";
            return Err(Refusal::conflict(path, message, None).into());
        }
    }
    user::Entity::change_anywhere(SCOPE)
        .filter(user::Column::Id.eq(id))
        .col_expr(user::Column::IsPlatformAdministrator, Expr::value(is_one))
        .exec(&**tx)
        .await?;
    Ok(())
}
