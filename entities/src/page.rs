//! Pages by keyset: where a page begins is a value of the order's columns, so that it costs the same wherever it begins.

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, Order, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Select, Value,
    sea_query::{Alias, Expr, ExprTrait, Query},
};

/// The most rows of one page.
pub const MAX: u64 = 100;
/// The rows of a page where none is said.
pub const DEFAULT: u64 = 20;
/// The most rows that are counted.
pub const COUNTED: u64 = 10_000;

/// Which rows of an ordered list: the first ones after a place, or the last ones before one.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// After this row's key.
    pub after: Option<Key>,
    /// Before this row's key.
    pub before: Option<Key>,
    /// How many; the list asks for one more to know whether there are more.
    pub limit: u64,
    /// The last ones rather than the first.
    pub backward: bool,
}

/// The values of a list's order columns at one row, the last of them unique.
pub type Key = Vec<Value>;

/// One page of rows, in the list's order.
#[derive(Debug, Clone)]
pub struct Rows<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Whether the list goes on after them.
    pub has_next: bool,
    /// Whether it began before them.
    pub has_previous: bool,
}

/// Narrows and orders `select` to `page` of the list ordered by `columns` (all ascending, or all descending). Pair with
/// [`Page::cut`].
pub fn paged<E: EntityTrait, C: ColumnTrait>(
    select: Select<E>,
    columns: &[C],
    descending: bool,
    page: &Page,
) -> Select<E> {
    let columns: Vec<Expr> = columns
        .iter()
        .map(|column| Expr::col(column.as_column_ref()))
        .collect();
    paged_by(select, &columns, descending, page)
}

/// The same for an order by expressions.
pub(crate) fn paged_by<E: EntityTrait>(
    mut select: Select<E>,
    order_by: &[Expr],
    descending: bool,
    page: &Page,
) -> Select<E> {
    if let Some(key) = &page.after {
        select = select.filter(beyond(order_by, key, !descending));
    }
    if let Some(key) = &page.before {
        select = select.filter(beyond(order_by, key, descending));
    }
    let order = page.order(descending);
    for expression in order_by {
        select = select.order_by(expression.clone(), order.clone());
    }
    select.limit(page.limit + 1)
}

/// `(a, b) > (x, y)`, spelled out, since not every database uses an index for the short form.
fn beyond(order_by: &[Expr], key: &[Value], greater: bool) -> Condition {
    let mut any = Condition::any();
    for last in 0..order_by.len().min(key.len()) {
        let mut all = Condition::all();
        for i in 0..last {
            all = all.add(order_by[i].clone().eq(key[i].clone()));
        }
        let (expression, value) = (order_by[last].clone(), key[last].clone());
        all = all.add(if greater {
            expression.gt(value)
        } else {
            expression.lt(value)
        });
        any = any.add(all);
    }
    any
}

impl Page {
    /// In which order the rows are read, of a list that is ascending or `descending`.
    pub(crate) fn order(&self, descending: bool) -> Order {
        if descending == self.backward {
            Order::Asc
        } else {
            Order::Desc
        }
    }

    /// Takes the extra row off again and puts the rest in the list's order.
    #[must_use]
    pub fn cut<T>(&self, mut rows: Vec<T>) -> Rows<T> {
        let more = rows.len() as u64 > self.limit;
        rows.truncate(usize::try_from(self.limit).unwrap_or(usize::MAX));
        if self.backward {
            rows.reverse();
            Rows {
                rows,
                has_next: self.before.is_some(),
                has_previous: more,
            }
        } else {
            Rows {
                rows,
                has_next: more,
                has_previous: self.after.is_some(),
            }
        }
    }
}

/// How many rows there are; `None` for more than [`COUNTED`], beyond which nothing is read.
///
/// # Errors
/// What the database says.
pub async fn count<E: EntityTrait>(
    select: Select<E>,
    db: &impl ConnectionTrait,
) -> Result<Option<u64>, DbErr> {
    let mut rows = select.into_query();
    rows.clear_selects()
        .clear_order_by()
        .expr(Expr::val(1))
        .limit(COUNTED + 1);
    let count = Query::select()
        .expr_as(Expr::cust("count(*)"), "n")
        .from_subquery(rows, Alias::new("counted"))
        .to_owned();
    let row = db
        .query_one(&count)
        .await?
        .ok_or_else(|| DbErr::RecordNotFound("a count".into()))?;
    let count = u64::try_from(row.try_get::<i64>("", "n")?).unwrap_or(0);
    Ok((count <= COUNTED).then_some(count))
}
