//! Finding conversations by words of their titles and messages: an index of [terms], and the named query that reads it.
//!
//! The rows are the truth and the index follows them: whatever changes a text says so in `is_indexed`, and the indexer, which takes
//! batches of such rows, writes the index from them or takes away what is not to be found any more.

pub mod terms;

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter,
    QuerySelect, Select, Value,
    sea_query::{Expr, LockBehavior, LockType},
};
use uuid::Uuid;

use crate::{
    Backend, ConversationId, MessageId, MessageRole, Scope, SystemScope, TenantId, Tx, UserId,
    conversation, message, runs::statement,
};

use self::terms::{Asked, Terms};

/// Bytes of the messages that one batch takes; the last of them may be longer.
const AT_ONCE: usize = 128 * 1024;

/// A text that is to be found, or not any more.
#[derive(Debug)]
struct Text {
    /// Of the message, or of the conversation whose title it is.
    id: Uuid,
    tenant: TenantId,
    conversation: ConversationId,
    owner: UserId,
    /// `None`: it is not to be found.
    text: Option<String>,
}

/// Owners that a query names.
const OWNERS: usize = 200;

/// A term that stands in all texts of one owner, and in hardly any other: an owner's texts are found among a tenant's as fast as
/// if there were no others.
fn owners(tenant: TenantId, owner: UserId) -> String {
    format!("{}{}", tenant.0.simple(), owner.0.simple())
}

/// Whether there is a text that the index does not know as it is.
///
/// # Errors
/// What the database says.
pub async fn is_behind(_: SystemScope, db: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let message = message::Entity::find()
        .select_only()
        .column(message::Column::Id)
        .filter(unindexed())
        .limit(1)
        .into_tuple::<MessageId>()
        .one(db)
        .await?;
    if message.is_some() {
        return Ok(true);
    }
    let title = conversation::Entity::find()
        .select_only()
        .column(conversation::Column::Id)
        .filter(untitled())
        .limit(1)
        .into_tuple::<ConversationId>()
        .one(db)
        .await?;
    Ok(title.is_some())
}

/// Spelled out, for the index that holds such messages alone: with values beside the text no database sees that it fits.
fn unindexed() -> Expr {
    Expr::cust("not is_indexed and status <> 'STREAMING'")
}

/// The same of conversations.
fn untitled() -> Expr {
    Expr::cust("not is_indexed")
}

/// Brings the index up to date with at most `limit` messages and as many titles, those that nobody else is at; of long messages
/// fewer, as others wait for these rows, and on SQLite for the writer. Answers how many it took. A statement for each text, and a
/// few beside; on SQLite two.
///
/// # Errors
/// What the database says.
pub async fn catch_up(_: SystemScope, tx: &Tx, limit: u64) -> Result<u64, DbErr> {
    let mut messages = message::Entity::find().filter(unindexed()).limit(limit);
    let mut titles = conversation::Entity::find().filter(untitled()).limit(limit);
    if tx.backend() == Backend::Postgres {
        messages = messages.lock_with_behavior(LockType::NoKeyUpdate, LockBehavior::SkipLocked);
        titles = titles.lock_with_behavior(LockType::NoKeyUpdate, LockBehavior::SkipLocked);
    }
    let mut messages = messages.all(&**tx).await?;
    let titles = titles.all(&**tx).await?;
    let mut size = 0;
    messages.retain(|row| {
        let fits = size < AT_ONCE;
        size += row.parts.text().len();
        fits
    });
    let taken = (messages.len() + titles.len()) as u64;
    if taken == 0 {
        return Ok(0);
    }
    let talks = conversation::Entity::find()
        .filter(conversation::Column::Id.is_in(messages.iter().map(|row| row.conversation_id)))
        .all(&**tx)
        .await?;
    let said = messages.iter().filter_map(|row| {
        let talk = talks.iter().find(|talk| talk.id == row.conversation_id)?;
        let is_there = row.removed_at.is_none()
            && talk.deleted_at.is_none()
            && row.role != MessageRole::System;
        Some(Text {
            id: row.id.0,
            tenant: row.tenant_id,
            conversation: row.conversation_id,
            owner: talk.owner_id,
            text: is_there.then(|| row.parts.text()),
        })
    });
    let called = titles.iter().map(|row| Text {
        id: row.id.0,
        tenant: row.tenant_id,
        conversation: row.id,
        owner: row.owner_id,
        text: row.title.clone().filter(|_| row.deleted_at.is_none()),
    });
    let texts: Vec<_> = said.chain(called).collect();
    let gone: Vec<_> = titles
        .iter()
        .filter(|row| row.deleted_at.is_some())
        .collect();
    forget(tx, "id", texts.iter().map(|text| text.id).collect()).await?;
    forget(
        tx,
        "conversation_id",
        gone.iter().map(|row| row.id.0).collect(),
    )
    .await?;
    let gone: Vec<_> = gone.iter().map(|row| row.id).collect();
    for text in &texts {
        if !gone.contains(&text.conversation) {
            write(tx, text).await?;
        }
    }
    message::Entity::update_many()
        .col_expr(message::Column::IsIndexed, Expr::value(true))
        .filter(message::Column::Id.is_in(messages.iter().map(|row| row.id)))
        .exec(&**tx)
        .await?;
    conversation::Entity::update_many()
        .col_expr(conversation::Column::IsIndexed, Expr::value(true))
        .filter(conversation::Column::Id.is_in(titles.iter().map(|row| row.id)))
        .exec(&**tx)
        .await?;
    Ok(taken)
}

/// Takes all that is left of a conversation out of the index.
///
/// # Errors
/// What the database says.
pub async fn forget_conversation(
    _: SystemScope,
    tx: &Tx,
    conversation: ConversationId,
) -> Result<(), DbErr> {
    forget(tx, "conversation_id", vec![conversation.0]).await
}

/// Takes texts out of the index.
async fn forget(tx: &Tx, column: &str, ids: Vec<Uuid>) -> Result<(), DbErr> {
    if ids.is_empty() {
        return Ok(());
    }
    let places: Vec<_> = (1..=ids.len()).map(|n| format!("${n}")).collect();
    let places = places.join(", ");
    let values: Vec<Value> = ids.into_iter().map(Value::from).collect();
    if tx.backend() == Backend::Sqlite {
        let sql = format!(
            "delete from search_terms where rowid in (select rowid from search_texts where {column} in ({places}))"
        );
        tx.execute_raw(statement(&**tx, &sql, values.clone()))
            .await?;
    }
    let sql = format!("delete from search_texts where {column} in ({places})");
    tx.execute_raw(statement(&**tx, &sql, values)).await?;
    Ok(())
}

#[derive(FromQueryResult)]
struct Row {
    rowid: i64,
}

async fn write(tx: &Tx, text: &Text) -> Result<(), DbErr> {
    let Some(terms) = text
        .text
        .as_deref()
        .map(Terms::of)
        .filter(|terms| !terms.is_empty())
    else {
        return Ok(());
    };
    let mut values: Vec<Value> = vec![text.id.into(), text.tenant.into(), text.conversation.into()];
    let all = terms.and(owners(text.tenant, text.owner));
    if tx.backend() == Backend::Postgres {
        values.push(all.tsvector().into());
        let sql = "insert into search_texts (id, tenant_id, conversation_id, terms) values ($1, $2, $3, $4::tsvector)";
        tx.execute_raw(statement(&**tx, sql, values)).await?;
        return Ok(());
    }
    let sql = "insert into search_texts (id, tenant_id, conversation_id) values ($1, $2, $3) returning rowid";
    let row = Row::find_by_statement(statement(&**tx, sql, values))
        .one(&**tx)
        .await?
        .ok_or_else(|| DbErr::RecordNotInserted)?;
    let values = vec![row.rowid.into(), all.spaced().into()];
    let sql = "insert into search_terms (rowid, terms) values ($1, $2)";
    tx.execute_raw(statement(&**tx, sql, values)).await?;
    Ok(())
}

const SEARCH: SystemScope = SystemScope::of("the words of one tenant's conversations");

/// The rows of a page of conversations that looks for words ([`conversation::Entity::holding`]). Before PostgreSQL's wall the index
/// of the words would be of no use, as the wall lets nothing be compared before it has passed a row. So the page is found behind
/// it, by a statement that names the tenant, and its rows are read before it like any others.
///
/// # Errors
/// What the database says.
pub async fn page(
    scope: &Scope,
    tx: &Tx,
    page: Select<conversation::Entity>,
) -> Result<Vec<conversation::Model>, DbErr> {
    let ids: Vec<ConversationId> = in_one_tenant(scope, page)
        .select_only()
        .column(conversation::Column::Id)
        .into_tuple()
        .all(&tx.system(SEARCH))
        .await?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows = conversation::Entity::in_tenant(scope)
        .filter(conversation::Column::Id.is_in(ids.iter().copied()))
        .all(&**tx)
        .await?;
    rows.sort_by_key(|row| ids.iter().position(|id| *id == row.id));
    Ok(rows)
}

/// How many conversations look for words and hold them, found as [`page`] does; `None` for more than
/// [`COUNTED`](crate::page::COUNTED).
///
/// # Errors
/// What the database says.
pub async fn count(
    scope: &Scope,
    tx: &Tx,
    asked: Select<conversation::Entity>,
) -> Result<Option<u64>, DbErr> {
    crate::page::count(in_one_tenant(scope, asked), &tx.system(SEARCH)).await
}

fn in_one_tenant(
    scope: &Scope,
    select: Select<conversation::Entity>,
) -> Select<conversation::Entity> {
    select.filter(conversation::Column::TenantId.eq(scope.tenant()))
}

impl conversation::Entity {
    /// Those of these owners in which a title or one message holds all the words of `asked`. What the scope sees of them is
    /// narrowed elsewhere.
    #[must_use]
    pub fn holding(scope: &Scope, backend: Backend, asked: &Asked, whose: &[UserId]) -> Condition {
        if whose.is_empty() {
            return Condition::all().add(conversation::Column::Id.is_null());
        }
        // Very many are looked for in a slower way: among all texts of the tenant.
        let named = if whose.len() > OWNERS { &[] } else { whose };
        let named = named.iter().map(|owner| owners(scope.tenant(), *owner));
        let owner: Vec<String> = named.collect();
        let (sql, query) = match backend {
            Backend::Postgres => (
                "conversations.id in (select conversation_id from search_texts where tenant_id = $1 and terms @@ $2::tsquery)",
                asked.tsquery(&owner),
            ),
            Backend::Sqlite => (
                "conversations.id in (select t.conversation_id from search_terms join search_texts t on t.rowid = search_terms.rowid \
                 where t.tenant_id = ? and search_terms match ?)",
                asked.fts5(&owner),
            ),
        };
        let parts = [Expr::val(scope.tenant()), Expr::val(query)];
        Condition::all().add(Expr::cust_with_exprs(sql, parts))
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::{Database, DbBackend, QueryTrait, Statement};

    use super::*;

    /// What is looked at again and again reads the rows that it is about, and no others.
    #[tokio::test]
    async fn looking_for_what_is_not_found_yet_reads_an_index() {
        let db = Database::connect("sqlite::memory:").await.unwrap();
        let tables = include_str!("../../../migration/src/m0002_live/tables.sql");
        let index = |name: &str| tables.lines().find(|line| line.contains(name)).unwrap();
        let message = message::Entity::find().filter(unindexed());
        let title = conversation::Entity::find().filter(untitled());
        for (table, name, select) in [
            ("messages", "messages_unindexed", message.into_query()),
            (
                "conversations",
                "conversations_unindexed",
                title.into_query(),
            ),
        ] {
            let columns = "(id blob primary key, is_indexed boolean, status text)";
            for sql in [&format!("create table {table} {columns}"), index(name)] {
                db.execute_unprepared(sql).await.unwrap();
            }
            let mut select = select;
            select.clear_selects().expr(Expr::val(1));
            let explain = format!(
                "explain query plan {}",
                select.to_string(sea_orm::sea_query::SqliteQueryBuilder)
            );
            let plan = db
                .query_one_raw(Statement::from_string(DbBackend::Sqlite, explain))
                .await
                .unwrap()
                .unwrap();
            let plan: String = plan.try_get_by("detail").unwrap();
            assert!(plan.contains(name), "{plan}");
        }
    }
}
