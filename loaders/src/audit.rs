//! The audit log of the tenant that is asked in: with AUDIT_READ, and for administrators of the platform.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use entities::{
    AuditEntryId, AuditOutcome, Permission, Scope, UserId, audit_entry,
    page::{self, Rows, paged},
    query::*,
};

use crate::{Asker, Found, Relation, Source, listing::Listing, reader::rows_by};

/// Which entries a list has; what is left out is no condition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct AuditFilter {
    /// Who did it.
    pub actor: Option<UserId>,
    /// What was done, as the graph names it.
    pub action: Option<String>,
    /// With what, as clients write its id.
    pub target: Option<String>,
    /// At this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    pub until: Option<DateTime<Utc>>,
    /// Whether it was done.
    pub outcome: Option<AuditOutcome>,
}

/// Whoever asks, if he may read the log.
fn auditor(source: &Source) -> Option<&Scope> {
    source.scope().filter(|scope| may_read(scope))
}

/// Whether somebody may read the audit log of the tenant that he asks in.
#[must_use]
pub fn may_read(scope: &Scope) -> bool {
    scope.may(Permission::AuditRead) || scope.may(Permission::PlatformManage)
}

fn filtered(scope: &Scope, filter: &AuditFilter) -> Select<audit_entry::Entity> {
    use audit_entry::Column as It;
    let mut select = audit_entry::Entity::in_tenant(scope);
    if let Some(actor) = filter.actor {
        select = select.filter(It::ActorId.eq(actor));
    }
    if let Some(action) = &filter.action {
        select = select.filter(It::Action.eq(action.as_str()));
    }
    if let Some(target) = &filter.target {
        select = select.filter(It::TargetId.eq(target.as_str()));
    }
    if let Some(since) = filter.since {
        select = select.filter(It::At.gte(since));
    }
    if let Some(until) = filter.until {
        select = select.filter(It::At.lt(until));
    }
    if let Some(outcome) = filter.outcome {
        select = select.filter(It::Outcome.eq(outcome));
    }
    select
}

/// The entry of this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuditEntryOf(pub AuditEntryId);

impl Relation for AuditEntryOf {
    type Value = Arc<audit_entry::Model>;
    const ASKER: Asker = auditor;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let rows = audit_entry::Entity::in_tenant(scope)
            .filter(audit_entry::Column::Id.is_in(keys.iter().map(|key| key.0)))
            .all(&**source.tx().await?)
            .await?;
        Ok(rows_by(rows, |row| Self(row.id)))
    }
}

/// A page of the entries that pass the filter, newest first: `at, id` is the order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AuditLog(pub Listing<AuditFilter>);

impl Relation for AuditLog {
    type Value = Rows<Arc<audit_entry::Model>>;
    const ASKER: Asker = auditor;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let order = [audit_entry::Column::At, audit_entry::Column::Id];
        let mut found = HashMap::with_capacity(keys.len());
        for key in keys {
            let page = key.0.page();
            let select = paged(filtered(scope, key.0.filter()), &order, true, page);
            let rows = select.all(&**source.tx().await?).await?;
            let rows = page.cut(rows.into_iter().map(Arc::new).collect());
            found.insert(key, rows);
        }
        Ok(found)
    }
}

/// How many entries pass the filter; `None` for more than [`page::COUNTED`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AuditCount(pub AuditFilter);

impl Relation for AuditCount {
    type Value = Option<u64>;
    const ASKER: Asker = auditor;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let mut found = HashMap::with_capacity(keys.len());
        for key in keys {
            let count = page::count(filtered(scope, &key.0), &**source.tx().await?).await?;
            found.insert(key, count);
        }
        Ok(found)
    }
}
