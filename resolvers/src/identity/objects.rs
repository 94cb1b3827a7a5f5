//! Users, memberships and API keys.

use std::sync::Arc;

use async_graphql::{Context, ID, Object, Result};
use entities::api_key;
use loaders::{
    groups::GroupsOfUser,
    identity::{Belonging, Member, MemberOf},
    tenancy::may_see_members,
};

use super::enums::{ApiKeyKind, ApiKeyStatus, Permission, Role, UserKind};
use crate::{asking::ContextExt, group::Group, scalars::DateTime, tenant::Tenant};

/// A user as this tenant sees it.
#[derive(Clone)]
pub struct User(pub Arc<Member>);

/// A user as this tenant sees it.
#[Object]
impl User {
    /// Its id.
    pub async fn id(&self) -> ID {
        self.0.user.id.into()
    }

    /// A person or a service.
    async fn kind(&self) -> UserKind {
        self.0.user.kind.into()
    }

    /// Name shown to the people of the tenant.
    async fn name(&self) -> &str {
        &self.0.user.name
    }

    /// E-mail address. Null for those who may not manage members, oneself aside, and for services.
    async fn email(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        let scope = ctx.scope()?;
        let may = scope.user() == self.0.user.id || may_see_members(&scope);
        Ok(self
            .0
            .user
            .email
            .as_deref()
            .filter(|_| may && self.0.user.kind == entities::UserKind::Person))
    }

    /// Whether it can act in this tenant.
    async fn is_active(&self) -> bool {
        let Member { user, membership } = &*self.0;
        let belongs = membership.as_ref();
        user.is_active && belongs.is_none_or(|it| it.is_active && it.ended_at.is_none())
    }

    /// Whether the account belongs to this tenant for good: it was made by an administrator or a service key of the tenant, who
    /// can deactivate it and have its password chosen anew.
    async fn is_managed(&self) -> bool {
        let Member { user, membership } = &*self.0;
        let here = membership.as_ref().map(|it| it.tenant_id);
        user.managed_tenant_id.is_some() && user.managed_tenant_id == here
    }

    /// When it came to this tenant.
    async fn created_at(&self) -> DateTime {
        let Member { user, membership } = &*self.0;
        let came = membership.as_ref().map(|it| it.created_at);
        came.unwrap_or(user.created_at).into()
    }

    /// When it was last seen in this tenant, give or take a minute; null: not yet.
    async fn last_seen_at(&self) -> Option<DateTime> {
        let membership = self.0.membership.as_ref()?;
        membership.last_seen_at.map(DateTime)
    }
}

/// That a user belongs to a tenant.
#[derive(Clone)]
pub struct Membership(pub Arc<Belonging>);

/// That a user belongs to a tenant.
#[Object]
impl Membership {
    /// Its id.
    pub async fn id(&self) -> ID {
        self.0.membership.id.into()
    }

    /// Who belongs to it.
    async fn user(&self) -> User {
        User(self.0.member.clone())
    }

    /// The tenant that the user belongs to.
    async fn tenant(&self) -> Tenant {
        Tenant(self.0.tenant.clone())
    }

    /// What the user is there.
    async fn role(&self) -> Role {
        self.0.membership.role.into()
    }

    /// Whether it can be used; a suspended one can't.
    async fn is_active(&self) -> bool {
        self.0.membership.is_active && self.0.membership.ended_at.is_none()
    }

    /// The groups that the user was made a member of and that the viewer may see, by path; being a member of one makes one of
    /// those within it as well. None of a tenant that is not the one asked in.
    async fn groups(&self, ctx: &Context<'_>) -> Result<Vec<Group>> {
        let row = &self.0.membership;
        if row.tenant_id != ctx.scope()?.tenant() || row.ended_at.is_some() {
            return Ok(Vec::new());
        }
        let found = ctx.reader().load(GroupsOfUser(row.user_id)).await?;
        Ok(found
            .iter()
            .flat_map(|list| list.iter())
            .map(|group| Group(group.clone()))
            .collect())
    }

    /// When it began.
    async fn created_at(&self) -> DateTime {
        self.0.membership.created_at.into()
    }
}

/// A key that programs use in place of a session. What the key itself reads is shown once, when it is made.
#[derive(Clone)]
pub struct ApiKey(pub Arc<api_key::Model>);

/// A key that programs use in place of a session. What the key itself reads is shown once, when it is made.
#[Object]
impl ApiKey {
    /// Its id.
    pub async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// Name shown to people.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Whose it is.
    async fn kind(&self) -> ApiKeyKind {
        self.0.kind.into()
    }

    /// Its first characters, to recognise it by.
    async fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// The most that it may do; never more than its owner may at the time.
    async fn permissions(&self) -> Vec<Permission> {
        self.0.permissions.iter().map(Permission::from).collect()
    }

    /// Whether it may act for other people of the tenant, by the header `Weft-On-Behalf-Of`. Only a service key may.
    async fn may_impersonate(&self) -> bool {
        self.0.may_impersonate
    }

    /// Whether it makes accounts for those it acts for who have none yet.
    async fn may_create_users(&self) -> bool {
        self.0.may_create_users
    }

    /// Whether it can be used.
    async fn status(&self, ctx: &Context<'_>) -> ApiKeyStatus {
        if self.0.revoked_at.is_some() {
            ApiKeyStatus::Revoked
        } else if self.0.expires_at.is_some_and(|at| at <= ctx.clock().now()) {
            ApiKeyStatus::Expired
        } else {
            ApiKeyStatus::Active
        }
    }

    /// Whom it acts as.
    async fn owner(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        Ok(ctx.reader().load(MemberOf(self.0.user_id)).await?.map(User))
    }

    /// When it runs out; null: not by itself.
    async fn expires_at(&self) -> Option<DateTime> {
        self.0.expires_at.map(DateTime)
    }

    /// When it was last used, give or take a minute; null: not yet.
    async fn last_used_at(&self) -> Option<DateTime> {
        self.0.last_used_at.map(DateTime)
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime {
        self.0.created_at.into()
    }
}
