//! A model at a provider.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{
    Audience, GroupId, ModelHealthStatus, ModelId, ModelKind, ModelProvider, Names, Reach,
    SecretId, TenantId, UserId, Visibility,
};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "models")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ModelId,
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
    /// What it is.
    pub kind: ModelKind,
    /// Whose wire it speaks.
    pub provider: ModelProvider,
    /// The provider's name for it.
    #[sea_orm(column_type = "Text")]
    pub model_name: String,
    /// The provider's own where absent.
    #[sea_orm(column_type = "Text", nullable)]
    pub base_url: Option<String>,
    /// Its address came from the operator: not guarded.
    pub by_operator: bool,
    /// Names of the headers that are sent.
    #[sea_orm(column_type = "JsonBinary")]
    pub header_names: Names,
    pub has_api_key: bool,
    /// Its key and the values of its headers.
    pub secret_id: Option<SecretId>,
    /// Tokens.
    pub context_window: Option<i32>,
    /// Tokens.
    pub max_output_tokens: Option<i32>,
    /// Of an embedding model.
    pub dimensions: Option<i32>,
    pub supports_tools: bool,
    pub supports_vision: bool,
    pub supports_reasoning: bool,
    /// Exact decimal.
    #[sea_orm(column_type = "Text", nullable)]
    pub input_per_million: Option<String>,
    /// Exact decimal.
    #[sea_orm(column_type = "Text", nullable)]
    pub output_per_million: Option<String>,
    /// Exact decimal.
    #[sea_orm(column_type = "Text", nullable)]
    pub cached_input_per_million: Option<String>,
    /// Calls under way at once.
    pub max_concurrency: Option<i32>,
    /// To the first token, and between tokens.
    pub timeout_ms: i32,
    /// Who sees it.
    pub visibility: Visibility,
    /// The group that it lives in.
    pub group_id: Option<GroupId>,
    /// Where it lives and with whom it is shared, as `groups` and `shares` have it.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub reach: Option<Reach>,
    /// As of the last call or check.
    pub health: ModelHealthStatus,
    /// When.
    pub checked_at: Option<DateTime<Utc>>,
    /// Of the last check.
    pub latency_ms: Option<i32>,
    #[sea_orm(column_type = "Text", nullable)]
    pub health_message: Option<String>,
    /// Its breaker stands open until then; passed and not cleared, one call may try.
    pub breaker_until: Option<DateTime<Utc>>,
    /// When it is to be checked next.
    pub check_at: Option<DateTime<Utc>>,
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
