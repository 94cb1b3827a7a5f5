//! Failed sign-ins of one account or address.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::{
    IntoActiveModel, QueryOrder, QuerySelect, entity::prelude::*, sea_query::OnConflict,
};

use crate::SystemScope;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "sign_in_failures")]
pub struct Model {
    /// A keyed hash.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Blob")]
    pub key: Vec<u8>,
    /// Since `first_at`.
    pub failures: i32,
    /// When.
    pub first_at: DateTime<Utc>,
    pub blocked_until: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The rows of `keys`, by key, made where they are missing (without a failure, as of `now`) and locked until the transaction
    /// ends.
    ///
    /// # Errors
    /// What the database says.
    pub async fn locked(
        _: SystemScope,
        tx: &impl ConnectionTrait,
        keys: &[Vec<u8>],
        now: DateTime<Utc>,
    ) -> Result<Vec<Model>, DbErr> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut keys = keys.to_vec();
        keys.sort();
        let rows = keys.iter().map(|key| {
            Model {
                key: key.clone(),
                failures: 0,
                first_at: now,
                blocked_until: None,
            }
            .into_active_model()
        });
        Self::insert_many(rows)
            .on_conflict(OnConflict::column(Column::Key).do_nothing().to_owned())
            .exec_without_returning(tx)
            .await?;
        Self::find()
            .filter(Column::Key.is_in(keys))
            .order_by_asc(Column::Key)
            .lock_exclusive()
            .all(tx)
            .await
    }
}
