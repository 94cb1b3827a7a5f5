//! What other crates get of the query library: ways to narrow, order and change, and none to begin a select.

pub use sea_orm::{
    ActiveModelTrait, ActiveValue,
    ActiveValue::NotSet,
    ActiveValue::Set,
    ActiveValue::Unchanged,
    ColumnTrait, Condition, DbErr, IntoActiveModel, Order, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, Select,
    sea_query::{Expr, LockBehavior, LockType},
};
