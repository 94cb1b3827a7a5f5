//! A page of each of several lists in one statement: the conversations of every agent on a page, and the like.

use std::{collections::HashMap, hash::Hash};

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryTrait, Select,
    TryGetable,
    sea_query::{Alias, Asterisk, Expr, ExprTrait, Func, Order, Query, WindowStatement},
};

use crate::page::{COUNTED, Page, paged};

/// Where a row stands in its list.
const PLACE: &str = "place";

/// The rows of `page` of each of so many lists: `select` holds the rows of all of them, and `of` is the column that tells them
/// apart. As they come, those of one list are in the order that [`Page::cut`] takes.
///
/// # Errors
/// What the database says.
pub async fn pages<E: EntityTrait, C: ColumnTrait>(
    select: Select<E>,
    lists: usize,
    of: C,
    order_by: &[C],
    descending: bool,
    page: &Page,
    db: &impl ConnectionTrait,
) -> Result<Vec<E::Model>, DbErr> {
    if lists <= 1 {
        // By an index no more is read than the page.
        return paged(select, order_by, descending, page).all(db).await;
    }
    let mut window = WindowStatement::partition_by(of.as_column_ref());
    for column in order_by {
        window.order_by(column.as_column_ref(), page.order(descending));
    }
    let mut rows = paged(select, order_by, descending, page).into_query();
    rows.clear_order_by().reset_limit();
    rows.expr_window_as(Func::cust("row_number"), window, PLACE);
    let last = i64::try_from(page.limit + 1).unwrap_or(i64::MAX);
    let listed = Query::select()
        .column(Asterisk)
        .from_subquery(rows, Alias::new("listed"))
        .and_where(Expr::col(PLACE).lte(last))
        .order_by(PLACE, Order::Asc)
        .to_owned();
    let statement = db.get_database_backend().build(&listed);
    E::Model::find_by_statement(statement).all(db).await
}

/// How many rows each list has that has any, in one statement: `None` for more than [`COUNTED`].
///
/// # Errors
/// What the database says.
pub async fn counts<E: EntityTrait, C: ColumnTrait, K: TryGetable + Eq + Hash>(
    select: Select<E>,
    of: C,
    db: &impl ConnectionTrait,
) -> Result<HashMap<K, Option<u64>>, DbErr> {
    const OF: &str = "of";
    let mut rows = select.into_query();
    rows.clear_selects().clear_order_by();
    rows.expr_as(Expr::col(of.as_column_ref()), OF);
    let window = WindowStatement::partition_by(of.as_column_ref());
    rows.expr_window_as(Func::cust("row_number"), window, PLACE);
    let most = i64::try_from(COUNTED + 1).unwrap_or(i64::MAX);
    let counted = Query::select()
        .column(OF)
        .expr_as(Expr::cust("count(*)"), "n")
        .from_subquery(rows, Alias::new("listed"))
        .and_where(Expr::col(PLACE).lte(most))
        .add_group_by([Expr::col(OF)])
        .to_owned();
    let rows = db.query_all(&counted).await?;
    let count = |n: i64| u64::try_from(n).ok().filter(|&n| n <= COUNTED);
    rows.iter()
        .map(|row| Ok((row.try_get("", OF)?, count(row.try_get("", "n")?))))
        .collect()
}
