//! Conversations that nobody touched for as long as their tenant keeps them: deleted hourly, as their owner would.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use entities::{
    ChangeAction, CommandError, ConversationId, RunStatus, TenantId, Within, conversation,
    query::*, run, tenant,
};
use events::Command;
use tokio::time::{MissedTickBehavior, interval};

use crate::{Engine, conversations, event, start::SYSTEM};

const EVERY: Duration = Duration::from_secs(3600);
/// Conversations of a tenant that one statement finds.
const PAGE: u64 = 200;

impl Engine {
    /// Deletes what is kept too long, until the process closes.
    pub(crate) async fn retain_hourly(self) {
        let mut hour = interval(EVERY);
        hour.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.closing().cancelled() => return,
                _ = hour.tick() => {}
            }
            match self.delete_untouched().await {
                Ok(0) => {}
                Ok(conversations) => {
                    tracing::info!(conversations, "deleted conversations that nobody touched");
                }
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to delete conversations that nobody touched; it is tried again"
                ),
            }
        }
    }

    /// Deletes the conversations that nobody touched for as many days as their tenant keeps them, and answers how many those were.
    /// One in which something runs or waits is touched.
    ///
    /// # Errors
    /// What the database says; what was deleted by then is.
    pub async fn delete_untouched(&self) -> Result<u64, CommandError> {
        let tenants = tenant::Entity::anywhere(SYSTEM)
            .filter(tenant::Column::RetentionDays.is_not_null())
            .all(self.log().db().reader(SYSTEM))
            .await?;
        let mut deleted = 0;
        for tenant in tenants {
            let Some(days) = tenant.retention_days else {
                continue;
            };
            let before = self.clock().now() - TimeDelta::days(days.into());
            deleted += self.delete_untouched_of(tenant.id, before).await?;
        }
        Ok(deleted)
    }

    async fn delete_untouched_of(
        &self,
        tenant: TenantId,
        before: DateTime<Utc>,
    ) -> Result<u64, CommandError> {
        let mut last = ConversationId(uuid::Uuid::nil());
        let mut deleted = 0;
        loop {
            let found: Vec<ConversationId> = conversation::Entity::anywhere(SYSTEM)
                .filter(conversation::Column::TenantId.eq(tenant))
                .filter(conversation::Column::DeletedAt.is_null())
                .filter(conversation::Column::LastActivityAt.lt(before))
                .filter(conversation::Column::Id.gt(last))
                .order_by_asc(conversation::Column::Id)
                .limit(PAGE)
                .select_only()
                .column(conversation::Column::Id)
                .into_tuple()
                .all(self.log().db().reader(SYSTEM))
                .await?;
            let is_full = found.len() as u64 == PAGE;
            for id in found {
                last = id;
                let is_deleted = self
                    .log()
                    .command::<_, CommandError, _>(Within::Tenant(tenant), move |c| {
                        Box::pin(async move { delete(c, tenant, id, before).await })
                    })
                    .await?;
                deleted += u64::from(is_deleted);
                if self.closing().is_cancelled() {
                    return Ok(deleted);
                }
            }
            if !is_full {
                return Ok(deleted);
            }
        }
    }
}

/// Deletes a conversation, unless it was touched meanwhile.
async fn delete(
    c: &mut Command,
    tenant: TenantId,
    id: ConversationId,
    before: DateTime<Utc>,
) -> Result<bool, CommandError> {
    if c.try_lock(tenant, id.0).await?.is_none() {
        return Ok(false);
    }
    let row = conversation::Entity::anywhere(SYSTEM)
        .filter(conversation::Column::Id.eq(id))
        .filter(conversation::Column::TenantId.eq(tenant))
        .filter(conversation::Column::DeletedAt.is_null())
        .filter(conversation::Column::LastActivityAt.lt(before))
        .one(&**c.tx())
        .await?;
    let Some(row) = row else { return Ok(false) };
    let open = [RunStatus::Queued, RunStatus::Running, RunStatus::Waiting];
    let runs = run::Entity::anywhere(SYSTEM)
        .filter(run::Column::ConversationId.eq(id))
        .filter(run::Column::Status.is_in(open))
        .one(&**c.tx())
        .await?;
    if runs.is_some() {
        return Ok(false);
    }
    conversation::Entity::change_anywhere(SYSTEM)
        .filter(conversation::Column::Id.eq(id))
        .set(conversation::ActiveModel {
            is_indexed: Set(false),
            deleted_at: Set(Some(c.now())),
            updated_at: Set(c.now()),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    c.append(id.0, None, event::deleted());
    conversations::changed(c, &row, ChangeAction::Deleted);
    Ok(true)
}
