//! One module for each table, what the columns of several hold, and [what stands behind a credential](standing).

pub mod agent;
pub mod agent_version;
pub mod api_key;
pub mod audit_chain;
pub mod audit_entry;
pub mod audit_link;
pub mod audit_pending;
pub mod auto_join_domain;
pub mod booking;
pub mod change;
pub mod conversation;
pub mod group;
pub mod group_ancestor;
pub mod group_member;
pub mod idempotency;
pub mod identity;
pub mod installation_key;
pub mod invitation;
pub mod invitation_group;
pub mod known_address;
pub mod llm_model;
pub mod logout_token;
pub mod membership;
pub mod message;
pub mod meta;
pub mod model_call;
pub mod model_fallback;
pub mod model_minute;
pub mod model_served;
pub mod model_turn;
pub mod oidc_flow;
pub mod password_reset;
pub mod people;
pub mod run;
pub mod run_step;
pub mod secret;
pub mod session;
pub mod set_up;
pub mod share;
pub mod sign_in_code;
pub mod sign_in_failure;
pub mod signing_key;
pub mod standing;
pub mod stream;
pub mod tenant;
pub mod tool_call;
pub mod usage_hour;
pub mod usage_latency;
pub mod user;
mod values;

pub use values::*;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, DeleteMany, EntityTrait, IntoActiveModel, QueryFilter,
    Select, UpdateMany,
};

use crate::{Scope, SystemScope, TenantId};

macro_rules! rows {
    ($($table:ident),* $(,)?) => {$(
        impl $table::Entity {
            /// Adds a row.
            ///
            /// # Errors
            /// What the database says; a value that must be unique and is taken is [`crate::db::Failure::Taken`].
            pub async fn add(tx: &impl ConnectionTrait, row: $table::Model) -> Result<(), DbErr> {
                <Self as EntityTrait>::insert(row.into_active_model()).exec_without_returning(tx).await.map(|_| ())
            }

            /// Adds several rows in one statement; none is nothing.
            ///
            /// # Errors
            /// As [`Self::add`]; then none was added.
            pub async fn add_all(tx: &impl ConnectionTrait, rows: Vec<$table::Model>) -> Result<(), DbErr> {
                if rows.is_empty() {
                    return Ok(());
                }
                <Self as EntityTrait>::insert_many(rows.into_iter().map(IntoActiveModel::into_active_model)).exec_without_returning(tx).await.map(|_| ())
            }

            /// All rows, whatever their tenant: for what has none yet.
            #[must_use]
            pub fn anywhere(_: SystemScope) -> Select<Self> {
                <Self as EntityTrait>::find()
            }

            /// Changes rows, whatever their tenant.
            #[must_use]
            pub fn change_anywhere(_: SystemScope) -> UpdateMany<Self> {
                <Self as EntityTrait>::update_many()
            }

            /// Deletes rows, whatever their tenant.
            #[must_use]
            pub fn delete_anywhere(_: SystemScope) -> DeleteMany<Self> {
                <Self as EntityTrait>::delete_many()
            }
        }
    )*};
}

macro_rules! of_a_tenant {
    ($($table:ident),* $(,)?) => {$(
        impl $table::Entity {
            /// The rows of the scope's tenant: how a select begins.
            #[must_use]
            pub fn in_tenant(scope: &Scope) -> Select<Self> {
                Self::of_tenant(scope.tenant())
            }

            /// Changes rows of the scope's tenant; narrow it further.
            #[must_use]
            pub fn change_in(scope: &Scope) -> UpdateMany<Self> {
                <Self as EntityTrait>::update_many().filter($table::Column::TenantId.eq(scope.tenant()))
            }

            /// Deletes rows of the scope's tenant; narrow it further.
            #[must_use]
            pub fn delete_in(scope: &Scope) -> DeleteMany<Self> {
                <Self as EntityTrait>::delete_many().filter($table::Column::TenantId.eq(scope.tenant()))
            }

            pub(crate) fn of_tenant(tenant: TenantId) -> Select<Self> {
                <Self as EntityTrait>::find().filter($table::Column::TenantId.eq(tenant))
            }
        }
    )*};
}

rows!(
    meta,
    set_up,
    signing_key,
    installation_key,
    tenant,
    user,
    membership,
    session,
    api_key,
    sign_in_failure,
    known_address,
    secret,
    llm_model,
    model_fallback,
    agent,
    agent_version,
    conversation,
    message,
    run,
    run_step,
    tool_call,
    model_call,
    change,
    stream,
    idempotency,
    model_turn,
    model_served,
    booking,
    usage_hour,
    usage_latency,
    model_minute,
    auto_join_domain,
    group,
    group_ancestor,
    group_member,
    share,
    invitation,
    invitation_group,
    password_reset,
    identity,
    oidc_flow,
    sign_in_code,
    logout_token,
    audit_entry,
    audit_pending,
    audit_link,
    audit_chain
);
of_a_tenant!(
    membership,
    api_key,
    secret,
    llm_model,
    model_fallback,
    agent,
    agent_version,
    conversation,
    message,
    run,
    run_step,
    tool_call,
    model_call,
    change,
    stream,
    idempotency,
    model_turn,
    model_served,
    booking,
    usage_hour,
    usage_latency,
    model_minute,
    auto_join_domain,
    group,
    group_ancestor,
    group_member,
    share,
    invitation,
    invitation_group,
    audit_entry,
    audit_link
);

macro_rules! in_order {
    ($($table:ident),* $(,)?) => {$(
        impl $table::Entity {
            /// Adds rows in this order; the database gives their numbers.
            ///
            /// # Errors
            /// What the database says.
            pub async fn record(tx: &impl ConnectionTrait, rows: Vec<$table::Model>) -> Result<(), DbErr> {
                if rows.is_empty() {
                    return Ok(());
                }
                let rows = rows.into_iter().map(|row| {
                    let mut row = row.into_active_model();
                    row.id = sea_orm::ActiveValue::NotSet;
                    row
                });
                <Self as EntityTrait>::insert_many(rows).exec_without_returning(tx).await.map(|_| ())
            }
        }
    )*};
}

in_order!(change, booking);
