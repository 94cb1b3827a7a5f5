//! Named reads of the trees that conversations are: paths, siblings, and where a branch ends, of many at once.

use std::collections::{HashMap, HashSet};

use sea_orm::{ConnectionTrait, DbErr, EntityTrait, FromQueryResult, Value};
use uuid::Uuid;

use crate::{
    ConversationId, MessageId, Scope, TenantId, message,
    page::{Page, Rows},
    runs::statement,
};

/// The longest path from a message to its root that is read, and the longest one down from it.
const DEPTH: i32 = 10_000;

/// The most messages that are told for [`siblings`] of one parent.
pub const SIBLINGS: i64 = 100;

/// A message on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// How many stand before it, from the root on, with those that do not show.
    pub depth: i64,
    /// Which message.
    pub message: MessageId,
}

/// Messages that show along one branch, from the root on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The conversation that they are of.
    pub conversation: ConversationId,
    /// The messages.
    pub stops: Vec<Stop>,
}

impl Path {
    /// A page of its messages; their keys are (depth, message). A place is told by the message where that is on the path, else
    /// by the depth: an answer that never began is taken out of the tree, and what hung below it rises.
    #[must_use]
    pub fn page(&self, page: &Page) -> Rows<Stop> {
        let from = page.after.as_deref().map_or(0, |key| {
            self.place(key).map_or_else(|deeper| deeper, |at| at + 1)
        });
        let to = page.before.as_deref().map_or(self.stops.len(), |key| {
            let depth = depth(key);
            self.place(key)
                .unwrap_or_else(|_| self.stops.partition_point(|stop| stop.depth < depth))
        });
        let between = self.stops.get(from..to).unwrap_or_default();
        let limit = usize::try_from(page.limit + 1).unwrap_or(usize::MAX);
        page.cut(if page.backward {
            between.iter().rev().take(limit).copied().collect()
        } else {
            between.iter().take(limit).copied().collect()
        })
    }

    /// Where the message of a key stands, or else the first that is deeper.
    fn place(&self, key: &[Value]) -> Result<usize, usize> {
        let message = match key.last() {
            Some(Value::Uuid(id)) => *id,
            _ => None,
        };
        let at = self
            .stops
            .iter()
            .position(|stop| Some(stop.message.0) == message);
        at.ok_or_else(|| self.stops.partition_point(|stop| stop.depth <= depth(key)))
    }
}

fn depth(key: &[Value]) -> i64 {
    match key.first() {
        Some(Value::BigInt(Some(depth))) => *depth,
        _ => 0,
    }
}

/// A message as it hangs in its tree, seen from `start`, which is `distance` below it (above it where that is negative).
#[derive(Debug, Clone, FromQueryResult)]
struct Link {
    start: Uuid,
    id: Uuid,
    parent_id: Option<Uuid>,
    conversation_id: Uuid,
    seq: i64,
    is_hidden: bool,
    distance: i32,
}

const LINK: &str = "m.id, m.parent_id, m.conversation_id, m.seq, m.is_hidden";

/// `$2, $3, …` for the values after the tenant, less the first `skip` of them.
fn places(values: &[Value], skip: usize) -> String {
    let places: Vec<String> = (2 + skip..=values.len())
        .map(|place| format!("${place}"))
        .collect();
    places.join(", ")
}

fn with_tenant(scope: &Scope, ids: impl IntoIterator<Item = Uuid>) -> Vec<Value> {
    std::iter::once(scope.tenant().0.into())
        .chain(ids.into_iter().map(Value::from))
        .collect()
}

/// From each of these messages up to its root.
fn upwards(start: &str) -> String {
    format!(
        "up(start, id, parent_id, conversation_id, seq, is_hidden, distance) as (
           select m.id, {LINK}, 0 from messages m where m.tenant_id = $1 and m.id in ({start})
           union all select u.start, {LINK}, u.distance + 1 from up u join messages m on m.id = u.parent_id
             where u.distance < {DEPTH})"
    )
}

/// The paths from the root to each of these messages, by the message; one that is hidden is left out of its path. One statement.
///
/// # Errors
/// What the database says.
pub async fn paths_to(
    scope: &Scope,
    db: &impl ConnectionTrait,
    ends: &[MessageId],
) -> Result<HashMap<MessageId, Path>, DbErr> {
    if ends.is_empty() {
        return Ok(HashMap::new());
    }
    let values = with_tenant(scope, ends.iter().map(|id| id.0));
    let sql = format!(
        "with recursive {} select * from up",
        upwards(&places(&values, 0))
    );
    let links = Link::find_by_statement(statement(db, &sql, values))
        .all(db)
        .await?;
    Ok(by_start(links)
        .into_iter()
        .filter_map(|(start, links)| Some((start, path(links)?)))
        .collect())
}

/// The paths from the root through each of these messages on to its latest leaf, by the message; those of hidden messages are
/// not there. One statement.
///
/// # Errors
/// What the database says.
pub async fn paths_through(
    scope: &Scope,
    db: &impl ConnectionTrait,
    messages: &[MessageId],
) -> Result<HashMap<MessageId, Path>, DbErr> {
    if messages.is_empty() {
        return Ok(HashMap::new());
    }
    let values = with_tenant(scope, messages.iter().map(|id| id.0));
    let start = places(&values, 0);
    let sql = format!(
        "with recursive {},
         down(start, id, parent_id, conversation_id, seq, is_hidden, distance) as (
           select m.id, {LINK}, 0 from messages m where m.tenant_id = $1 and m.id in ({start})
           union all select d.start, {LINK}, d.distance - 1 from down d join messages m on m.parent_id = d.id
             where d.distance > -{DEPTH})
         select * from up union all select * from down where distance < 0",
        upwards(&start)
    );
    let links = Link::find_by_statement(statement(db, &sql, values))
        .all(db)
        .await?;
    let paths = by_start(links).into_iter().filter_map(|(start, links)| {
        let shows = links
            .iter()
            .any(|link| link.distance == 0 && !link.is_hidden);
        let branch = if shows {
            latest_branch(&links)
        } else {
            Vec::new()
        };
        Some((start, path(branch)?))
    });
    Ok(paths.collect())
}

fn by_start(links: Vec<Link>) -> HashMap<MessageId, Vec<Link>> {
    let mut found: HashMap<MessageId, Vec<Link>> = HashMap::new();
    for link in links {
        found.entry(MessageId(link.start)).or_default().push(link);
    }
    found
}

/// Of a message's ancestors and descendants those on the way to its latest leaf. A leaf is a message that shows and has none
/// below it that does; a hidden one in between is on the way, though it does not show.
fn latest_branch(links: &[Link]) -> Vec<Link> {
    let by_id: HashMap<Uuid, &Link> = links.iter().map(|link| (link.id, link)).collect();
    let mut inner: HashSet<Uuid> = HashSet::new();
    for shown in links
        .iter()
        .filter(|link| link.distance <= 0 && !link.is_hidden)
    {
        let mut above = shown.parent_id;
        while let Some(id) = above
            && inner.insert(id)
        {
            above = by_id.get(&id).and_then(|link| link.parent_id);
        }
    }
    let leaves = links
        .iter()
        .filter(|link| link.distance <= 0 && !link.is_hidden && !inner.contains(&link.id));
    let mut branch = Vec::new();
    let mut at = leaves.max_by_key(|link| link.seq).map(|link| link.id);
    while let Some(link) = at.and_then(|id| by_id.get(&id)) {
        branch.push((*link).clone());
        at = link.parent_id;
    }
    branch
}

/// `None` where nothing was found.
fn path(mut links: Vec<Link>) -> Option<Path> {
    let conversation = ConversationId(links.first()?.conversation_id);
    links.sort_unstable_by_key(|link| std::cmp::Reverse(link.distance));
    let stops = (0..).zip(&links).filter(|(_, link)| !link.is_hidden);
    Some(Path {
        conversation,
        stops: stops
            .map(|(depth, link)| Stop {
                depth,
                message: MessageId(link.id),
            })
            .collect(),
    })
}

/// Of each of these messages itself if it shows, or the nearest one above it that does. One statement.
///
/// # Errors
/// What the database says.
pub async fn shown(
    tenant: TenantId,
    db: &impl ConnectionTrait,
    messages: &[MessageId],
) -> Result<HashMap<MessageId, MessageId>, DbErr> {
    if messages.is_empty() {
        return Ok(HashMap::new());
    }
    let values = std::iter::once(tenant.0.into())
        .chain(messages.iter().map(|id| Value::from(id.0)))
        .collect::<Vec<_>>();
    let sql = format!(
        "with recursive up(start, id, parent_id, is_hidden, distance) as (
           select m.id, m.id, m.parent_id, m.is_hidden, 0 from messages m where m.tenant_id = $1 and m.id in ({})
           union all select u.start, m.id, m.parent_id, m.is_hidden, u.distance + 1 from up u join messages m on m.id = u.parent_id
             where u.is_hidden and u.distance < {DEPTH})
         select start, id from up where not is_hidden",
        places(&values, 0)
    );
    let rows = db.query_all_raw(statement(db, &sql, values)).await?;
    rows.iter()
        .map(|row| Ok((row.try_get_by("start")?, row.try_get_by("id")?)))
        .collect()
}

/// The messages below these parents, and the roots of these conversations, in order of creation, hidden ones left out; of those
/// with one parent and one role the first [`SIBLINGS`]. One statement.
///
/// # Errors
/// What the database says.
pub async fn siblings(
    scope: &Scope,
    db: &impl ConnectionTrait,
    parents: &[MessageId],
    roots_of: &[ConversationId],
) -> Result<Vec<message::Model>, DbErr> {
    let mut values = with_tenant(scope, parents.iter().map(|id| id.0));
    let mut either = Vec::new();
    if !parents.is_empty() {
        either.push(format!("m.parent_id in ({})", places(&values, 0)));
    }
    if !roots_of.is_empty() {
        let before = values.len() - 1;
        values.extend(roots_of.iter().map(|id| Value::from(id.0)));
        let roots_of = places(&values, before);
        // Said so that no database looks through the roots of all conversations there are.
        either.push(format!(
            "(m.parent_id is null) = true and m.conversation_id in ({roots_of})"
        ));
    }
    if either.is_empty() {
        return Ok(Vec::new());
    }
    values.push(SIBLINGS.into());
    let sql = format!(
        "select * from (
           select m.*, row_number() over (partition by m.conversation_id, m.parent_id, m.role order by m.seq) as place
             from messages m where m.tenant_id = $1 and not m.is_hidden and ({})) as listed
         where place <= ${} order by seq",
        either.join(" or "),
        values.len()
    );
    message::Entity::find()
        .from_raw_sql(statement(db, &sql, values))
        .all(db)
        .await
}

impl message::Entity {
    /// The latest message below this one that none is below, or of the whole conversation where none is named; an answer that is
    /// yet to begin is one, what was removed is none. One statement.
    ///
    /// # Errors
    /// What the database says.
    pub async fn latest_leaf(
        db: &impl ConnectionTrait,
        tenant: TenantId,
        conversation: ConversationId,
        below: Option<MessageId>,
    ) -> Result<Option<MessageId>, DbErr> {
        const LEAF: &str = "not exists (select 1 from messages c where c.parent_id = m.id and c.removed_at is null)";
        let mut values: Vec<Value> = vec![tenant.0.into(), conversation.0.into()];
        let sql = match below {
            Some(message) => {
                values.push(message.0.into());
                format!(
                    "with recursive down(id, distance) as (
                       select m.id, 0 from messages m where m.tenant_id = $1 and m.conversation_id = $2 and m.id = $3
                       union all select m.id, d.distance + 1 from down d join messages m on m.parent_id = d.id
                         where m.removed_at is null and d.distance < {DEPTH})
                     select m.id from down d join messages m on m.id = d.id where {LEAF} order by m.seq desc limit 1"
                )
            }
            None => format!(
                "select m.id from messages m where m.tenant_id = $1 and m.conversation_id = $2 and m.removed_at is null
                   and {LEAF} order by m.seq desc limit 1"
            ),
        };
        let row = db.query_one_raw(statement(db, &sql, values)).await?;
        row.map(|row| row.try_get_by("id")).transpose()
    }
}
