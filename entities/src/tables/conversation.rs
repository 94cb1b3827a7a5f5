//! A conversation. Its id is that of its stream of events too.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{AgentId, Audience, ConversationId, MessageId, Reach, RunId, TenantId, UserId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "conversations")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ConversationId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// Who made it.
    pub owner_id: UserId,
    /// With whom it is shared, as `shares` has it.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub reach: Option<Reach>,
    pub agent_id: Option<AgentId>,
    #[sea_orm(column_type = "Text", nullable)]
    pub title: Option<String>,
    /// Then no model writes over it.
    pub title_by_person: bool,
    /// When a model is to write a title, while it has none.
    pub title_due_at: Option<DateTime<Utc>>,
    /// How often that failed.
    pub title_failures: i32,
    /// Whether its title can be found.
    pub is_indexed: bool,
    pub is_archived: bool,
    /// The end of the branch last used.
    pub leaf_id: Option<MessageId>,
    /// The newest one that shows.
    pub last_message_id: Option<MessageId>,
    /// The one RUNNING or WAITING.
    pub active_run_id: Option<RunId>,
    /// The greatest number given to a run.
    pub last_queue_no: i64,
    /// When.
    pub last_activity_at: DateTime<Utc>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Hidden since.
    pub deleted_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// Who sees it, and its messages and runs.
    #[must_use]
    pub fn audience(&self) -> Audience {
        Audience::owner(self.owner_id).reaching(self.reach.as_ref())
    }
}
