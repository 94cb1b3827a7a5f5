//! An agent.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{
    AgentId, AgentSpec, AgentVersionId, Audience, GroupId, ModelId, Reach, TenantId, UserId,
    Visibility,
};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "agents")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AgentId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// Who made it.
    pub owner_id: UserId,
    /// Short name, unique in the tenant.
    #[sea_orm(column_type = "Text")]
    pub slug: String,
    /// Name shown to people.
    #[sea_orm(column_type = "Text")]
    pub name: String,
    #[sea_orm(column_type = "Text")]
    pub description: String,
    /// Who sees it.
    pub visibility: Visibility,
    /// The group that it lives in.
    pub group_id: Option<GroupId>,
    /// Where it lives and with whom it is shared, as `groups` and `shares` have it.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub reach: Option<Reach>,
    pub is_enabled: bool,
    /// What the next version will be.
    #[sea_orm(column_type = "JsonBinary")]
    pub draft: AgentSpec,
    /// The draft's model.
    pub draft_model_id: Option<ModelId>,
    /// When.
    pub draft_updated_at: DateTime<Utc>,
    /// The newest published version.
    pub version_id: AgentVersionId,
    /// Runs of it so far, as the roll-up of usage counted them.
    pub uses: i64,
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
    /// Who sees it.
    #[must_use]
    pub fn audience(&self) -> Audience {
        Audience::new(self.owner_id, self.visibility).reaching(self.reach.as_ref())
    }
}
