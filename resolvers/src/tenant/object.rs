//! The tenant itself.

use std::sync::Arc;

use async_graphql::{Context, ID, Object, Result};
use chrono::Utc;
use entities::{Permission, tenant};
use loaders::{
    audit::{AuditCount, AuditLog, may_read},
    groups::{GroupCount, Groups},
    listing::Listing,
    tenancy::{
        InvitationCount, Invitations, KeyCount, Keys, MemberCount, Members, may_see_members,
    },
};
use uuid::Uuid;

use super::{invitation::Invitation, settings::TenantSettings};
use crate::{
    asking::ContextExt,
    audit::{AuditEntry, AuditFilter},
    connection::{Connection, Paging},
    group::{self, Group},
    identity::{ApiKey, Membership},
    model::query_text,
    scalars::{Cursor, DateTime},
    usage::{self, UsageSummary},
};

/// Names of the lists in their cursors.
const MEMBERS: &str = "tenant.members";
const INVITATIONS: &str = "tenant.invitations";
const API_KEYS: &str = "tenant.apiKeys";
const AUDIT_LOG: &str = "tenant.auditLog";

/// A place in a list that has the newest first.
type Newest = (chrono::DateTime<Utc>, Uuid);

/// A tenant: a team or a customer, with agents, models, people and conversations of its own. Nothing is shared between two.
#[derive(Clone)]
pub struct Tenant(pub Arc<tenant::Model>);

impl Tenant {
    /// Whether it is the one that is asked in. Of another only what it is called is told, whoever asks.
    fn is_here(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(ctx.scope()?.tenant() == self.0.id)
    }
}

/// A tenant: a team or a customer, with agents, models, people and conversations of its own. Nothing is shared between two.
#[Object]
impl Tenant {
    /// Its id.
    pub async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// Short name, unique in the installation, `[a-z0-9-]{1,63}`: for the header `Weft-Tenant` and for `signIn`.
    async fn slug(&self) -> &str {
        &self.0.slug
    }

    /// Name shown to people.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether it can be used. An administrator of the platform may suspend it; then nobody else gets in.
    async fn is_active(&self) -> bool {
        self.0.is_active
    }

    /// Who belongs to it, suspended ones included, by name. Null for those who may not manage members, and of a tenant that is
    /// not the one asked in.
    async fn members(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "How many at most, from the beginning of the list or from `after` on: 20 where neither this nor `last` is \
                    given. From 0 to `ServiceLimits.maxPageSize`, which is 100 unless set otherwise."
        )]
        first: Option<i32>,
        #[graphql(
            desc = "Only what stands after this place: a cursor of this list in this order, such as the `endCursor` of the \
                    page before."
        )]
        after: Option<Cursor>,
        #[graphql(
            desc = "How many at most, from the end of the list or from `before` back; they come in the list's order all the \
                    same. As many as `first` may be, and not together with it."
        )]
        last: Option<i32>,
        #[graphql(
            desc = "Only what stands before this place: a cursor of this list in this order, such as the `startCursor` of the \
                    page after."
        )]
        before: Option<Cursor>,
        #[graphql(
            desc = "A text that the name or the e-mail address holds, whatever the case; 200 characters at most."
        )]
        query: Option<String>,
    ) -> Result<Option<Connection<Membership>>> {
        if !self.is_here(ctx)? || !may_see_members(&*ctx.scope()?) {
            return Ok(None);
        }
        let page = Paging {
            first,
            after,
            last,
            before,
        }
        .read::<(String, Uuid)>(ctx, MEMBERS)?;
        let query = query_text(&["query"], query)?;
        let listing = Listing::new(page, query.clone());
        let Some(rows) = ctx.reader().load(Members(listing)).await? else {
            return Ok(None);
        };
        let members = Connection::new(
            MEMBERS,
            rows,
            |row| (row.member.user.name.clone(), row.membership.id.0),
            Membership,
        );
        let reader = ctx.reader().clone();
        Ok(Some(members.counted(move || {
            let (reader, query) = (reader.clone(), query.clone());
            async move { Ok(reader.load(MemberCount(query)).await?.flatten()) }
        })))
    }

    /// The groups that the viewer may see, by path: those that he is a member of, or all with MEMBERS_MANAGE. None of a tenant
    /// that is not the one asked in.
    async fn groups(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "How many at most, from the beginning of the list or from `after` on: 20 where neither this nor `last` is \
                    given. From 0 to `ServiceLimits.maxPageSize`, which is 100 unless set otherwise."
        )]
        first: Option<i32>,
        #[graphql(
            desc = "Only what stands after this place: a cursor of this list in this order, such as the `endCursor` of the \
                    page before."
        )]
        after: Option<Cursor>,
        #[graphql(
            desc = "How many at most, from the end of the list or from `before` back; they come in the list's order all the \
                    same. As many as `first` may be, and not together with it."
        )]
        last: Option<i32>,
        #[graphql(
            desc = "Only what stands before this place: a cursor of this list in this order, such as the `startCursor` of the \
                    page after."
        )]
        before: Option<Cursor>,
    ) -> Result<Connection<Group>> {
        let page = Paging {
            first,
            after,
            last,
            before,
        }
        .read::<group::Named>(ctx, group::GROUPS)?;
        if !self.is_here(ctx)? {
            return Ok(Connection::empty());
        }
        let Some(rows) = ctx.reader().load(Groups(Listing::new(page, ()))).await? else {
            return Ok(Connection::empty());
        };
        let reader = ctx.reader().clone();
        Ok(group::connection(rows).counted(move || {
            let reader = reader.clone();
            async move { Ok(reader.load(GroupCount).await?.flatten()) }
        }))
    }

    /// The invitations into it, newest first, those included that can't be accepted any more. Null for those who may not manage
    /// members, and of a tenant that is not the one asked in; an administrator of the platform who is no member sees those that
    /// such a one made.
    async fn invitations(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "How many at most, from the beginning of the list or from `after` on: 20 where neither this nor `last` is \
                    given. From 0 to `ServiceLimits.maxPageSize`, which is 100 unless set otherwise."
        )]
        first: Option<i32>,
        #[graphql(
            desc = "Only what stands after this place: a cursor of this list in this order, such as the `endCursor` of the \
                    page before."
        )]
        after: Option<Cursor>,
        #[graphql(
            desc = "How many at most, from the end of the list or from `before` back; they come in the list's order all the \
                    same. As many as `first` may be, and not together with it."
        )]
        last: Option<i32>,
        #[graphql(
            desc = "Only what stands before this place: a cursor of this list in this order, such as the `startCursor` of the \
                    page after."
        )]
        before: Option<Cursor>,
    ) -> Result<Option<Connection<Invitation>>> {
        if !self.is_here(ctx)? || !may_see_members(&*ctx.scope()?) {
            return Ok(None);
        }
        let page = Paging {
            first,
            after,
            last,
            before,
        }
        .read::<Newest>(ctx, INVITATIONS)?;
        let Some(rows) = ctx
            .reader()
            .load(Invitations(Listing::new(page, ())))
            .await?
        else {
            return Ok(None);
        };
        let place = |row: &Arc<entities::invitation::Model>| (row.created_at, row.id.0);
        let invitations = Connection::new(INVITATIONS, rows, place, Invitation);
        let reader = ctx.reader().clone();
        Ok(Some(invitations.counted(move || {
            let reader = reader.clone();
            async move { Ok(reader.load(InvitationCount).await?.flatten()) }
        })))
    }

    /// The API keys of all in it, newest first. Null for those who may not manage members, and of a tenant that is not the one
    /// asked in.
    async fn api_keys(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "How many at most, from the beginning of the list or from `after` on: 20 where neither this nor `last` is \
                    given. From 0 to `ServiceLimits.maxPageSize`, which is 100 unless set otherwise."
        )]
        first: Option<i32>,
        #[graphql(
            desc = "Only what stands after this place: a cursor of this list in this order, such as the `endCursor` of the \
                    page before."
        )]
        after: Option<Cursor>,
        #[graphql(
            desc = "How many at most, from the end of the list or from `before` back; they come in the list's order all the \
                    same. As many as `first` may be, and not together with it."
        )]
        last: Option<i32>,
        #[graphql(
            desc = "Only what stands before this place: a cursor of this list in this order, such as the `startCursor` of the \
                    page after."
        )]
        before: Option<Cursor>,
    ) -> Result<Option<Connection<ApiKey>>> {
        if !self.is_here(ctx)? || !ctx.scope()?.may(Permission::MembersManage) {
            return Ok(None);
        }
        let page = Paging {
            first,
            after,
            last,
            before,
        }
        .read::<Newest>(ctx, API_KEYS)?;
        let Some(rows) = ctx.reader().load(Keys(Listing::new(page, ()))).await? else {
            return Ok(None);
        };
        let place = |row: &Arc<entities::api_key::Model>| (row.created_at, row.id.0);
        let keys = Connection::new(API_KEYS, rows, place, ApiKey);
        let reader = ctx.reader().clone();
        Ok(Some(keys.counted(move || {
            let reader = reader.clone();
            async move { Ok(reader.load(KeyCount).await?.flatten()) }
        })))
    }

    /// Who did what in it, newest first. Null for those who may not read it, and of a tenant that is not the one asked in.
    async fn audit_log(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "How many at most, from the beginning of the list or from `after` on: 20 where neither this nor `last` is \
                    given. From 0 to `ServiceLimits.maxPageSize`, which is 100 unless set otherwise."
        )]
        first: Option<i32>,
        #[graphql(
            desc = "Only what stands after this place: a cursor of this list in this order, such as the `endCursor` of the \
                    page before."
        )]
        after: Option<Cursor>,
        #[graphql(
            desc = "How many at most, from the end of the list or from `before` back; they come in the list's order all the \
                    same. As many as `first` may be, and not together with it."
        )]
        last: Option<i32>,
        #[graphql(
            desc = "Only what stands before this place: a cursor of this list in this order, such as the `startCursor` of the \
                    page after."
        )]
        before: Option<Cursor>,
        #[graphql(desc = "Only those that fit.")] filter: Option<AuditFilter>,
    ) -> Result<Option<Connection<AuditEntry>>> {
        if !self.is_here(ctx)? || !may_read(&*ctx.scope()?) {
            return Ok(None);
        }
        let page = Paging {
            first,
            after,
            last,
            before,
        }
        .read::<Newest>(ctx, AUDIT_LOG)?;
        let Some(filter) = filter.unwrap_or_default().read() else {
            return Ok(Some(Connection::empty()));
        };
        let listing = Listing::new(page, filter.clone());
        let Some(rows) = ctx.reader().load(AuditLog(listing)).await? else {
            return Ok(None);
        };
        let place = |row: &Arc<entities::audit_entry::Model>| (row.at, row.id.0);
        let entries = Connection::new(AUDIT_LOG, rows, place, AuditEntry);
        let reader = ctx.reader().clone();
        Ok(Some(entries.counted(move || {
            let (reader, filter) = (reader.clone(), filter.clone());
            async move { Ok(reader.load(AuditCount(filter)).await?.flatten()) }
        })))
    }

    /// What it decided for itself. Null for those who may not change it, and of a tenant that is not the one asked in.
    async fn settings(&self, ctx: &Context<'_>) -> Result<Option<TenantSettings>> {
        let scope = ctx.scope()?;
        let may = scope.may(Permission::TenantManage) || scope.may(Permission::PlatformManage);
        let shown = self.is_here(ctx)? && may;
        Ok(shown.then(|| TenantSettings(self.0.clone())))
    }

    /// Runs, tokens, cost and latency of the whole tenant; null for those who may not read them, and of a tenant that is not the
    /// one asked in.
    async fn usage(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "From this hour on; left out: 30 days before `until`.")] since: Option<
            DateTime,
        >,
        #[graphql(desc = "Hours that begin before this time; left out: now.")] until: Option<
            DateTime,
        >,
    ) -> Result<Option<UsageSummary>> {
        if !self.is_here(ctx)? || !ctx.scope()?.may(Permission::UsageRead) {
            return Ok(None);
        }
        usage::between(ctx, self.0.id.0, since, until)
            .await
            .map(Some)
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime {
        self.0.created_at.into()
    }

    /// When its name or settings last changed.
    async fn updated_at(&self) -> DateTime {
        self.0.updated_at.into()
    }
}
