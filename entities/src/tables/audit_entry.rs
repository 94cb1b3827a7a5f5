//! That something was done, or refused: only ever added.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::{
    QuerySelect, QueryTrait,
    entity::prelude::*,
    sea_query::{Expr, ExprTrait},
};

use crate::{
    ApiKeyId, AuditEntryId, AuditOutcome, SystemScope, TenantId, UserId, audit_link, audit_pending,
};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_entries")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AuditEntryId,
    /// The tenant; all zeros for the installation.
    pub tenant_id: TenantId,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor_id: Option<UserId>,
    /// By which key.
    pub api_key_id: Option<ApiKeyId>,
    /// For whom a key acted.
    pub on_behalf_of_id: Option<UserId>,
    /// What, as the graph names it.
    #[sea_orm(column_type = "Text")]
    pub action: String,
    /// With what, as clients write its id.
    #[sea_orm(column_type = "Text", nullable)]
    pub target_id: Option<String>,
    /// Whether it was done.
    pub outcome: AuditOutcome,
    /// From which address.
    #[sea_orm(column_type = "Text", nullable)]
    pub address: Option<String>,
    /// Names of what changed, never values.
    #[sea_orm(column_type = "JsonBinary")]
    pub details: Json,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// An entry of a tenant that stands in no chain and waits for none; `None`: there is none such.
    ///
    /// # Errors
    /// What the database says.
    pub async fn unlinked(
        _: SystemScope,
        db: &impl ConnectionTrait,
        tenant: TenantId,
    ) -> Result<Option<AuditEntryId>, DbErr> {
        let same = |column: Expr| column.equals((Entity, Column::Id));
        let linked = audit_link::Entity::find()
            .filter(same(Expr::col((
                audit_link::Entity,
                audit_link::Column::EntryId,
            ))))
            .select_only()
            .column(audit_link::Column::Seq)
            .into_query();
        let waiting = audit_pending::Entity::find()
            .filter(same(Expr::col((
                audit_pending::Entity,
                audit_pending::Column::EntryId,
            ))))
            .select_only()
            .column(audit_pending::Column::Id)
            .into_query();
        let row = Self::find()
            .filter(Column::TenantId.eq(tenant))
            .filter(Expr::exists(linked).not())
            .filter(Expr::exists(waiting).not())
            .one(db)
            .await?;
        Ok(row.map(|row| row.id))
    }
}
