//! Messages, as whoever asks may see them: those of conversations that he sees, without answers that did not begin.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

use entities::{
    ConversationId, MessageId, MessageRole, Parts, Scope, message,
    query::*,
    tree::{self, Path},
};

use crate::{
    Asker, Found, Relation, Source,
    conversations::talker,
    reader::{rows_by, values_by},
};

/// The message of this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageOf(pub MessageId);

impl Relation for MessageOf {
    type Value = Arc<message::Model>;
    const ASKER: Asker = talker;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let select = message::Entity::seen(scope)
            .filter(message::Column::Id.is_in(keys.iter().map(|key| key.0)));
        let rows = select.all(&**source.tx().await?).await?;
        Ok(rows_by(rows, |row| Self(row.id)))
    }
}

/// The parts that a message under way has in the view that the rest is read from: those that the conversation's cursor has
/// seen. Told apart by its id.
#[derive(Debug, Clone)]
pub struct LivePartsOf(pub Arc<message::Model>);

impl PartialEq for LivePartsOf {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for LivePartsOf {}

impl Hash for LivePartsOf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl Relation for LivePartsOf {
    type Value = Arc<Parts>;

    async fn fetch(_scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let rows: Vec<message::Model> = keys.iter().map(|key| (*key.0).clone()).collect();
        let mut parts = engine::live::parts(source.snapshot(), &rows).await?;
        Ok(keys
            .into_iter()
            .filter_map(|key| {
                let parts = parts.remove(&key.0.id)?;
                Some((key, Arc::new(parts)))
            })
            .collect())
    }
}

/// The messages that show from the root to this one; where it does not show itself, up to the nearest above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathTo(pub MessageId);

impl Relation for PathTo {
    type Value = Arc<Path>;
    const ASKER: Asker = talker;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let ends: Vec<MessageId> = keys.iter().map(|key| key.0).collect();
        let paths = tree::paths_to(scope, &**source.tx().await?, &ends).await?;
        Ok(paths
            .into_iter()
            .map(|(end, path)| (Self(end), Arc::new(path)))
            .collect())
    }
}

/// The messages that show from the root through this one on to its latest leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathThrough(pub MessageId);

impl Relation for PathThrough {
    type Value = Arc<Path>;
    const ASKER: Asker = talker;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let messages: Vec<MessageId> = keys.iter().map(|key| key.0).collect();
        let paths = tree::paths_through(scope, &**source.tx().await?, &messages).await?;
        Ok(paths
            .into_iter()
            .map(|(message, path)| (Self(message), Arc::new(path)))
            .collect())
    }
}

/// The message itself if it shows, or the nearest one above it that does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShownOf(pub MessageId);

impl Relation for ShownOf {
    type Value = MessageId;
    const ASKER: Asker = talker;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let messages: Vec<MessageId> = keys.iter().map(|key| key.0).collect();
        let shown = tree::shown(scope.tenant(), &**source.tx().await?, &messages).await?;
        Ok(values_by(shown, Self))
    }
}

/// The messages of one role below one parent, or the roots of a conversation, in order of creation; the first
/// [`tree::SIBLINGS`] of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SiblingsOf {
    /// The conversation.
    pub conversation: ConversationId,
    /// What they follow.
    pub parent: Option<MessageId>,
    /// Who speaks.
    pub role: MessageRole,
}

impl SiblingsOf {
    /// Those of a message, with itself.
    #[must_use]
    pub fn of(row: &message::Model) -> Self {
        Self {
            conversation: row.conversation_id,
            parent: row.parent_id,
            role: row.role,
        }
    }
}

impl Relation for SiblingsOf {
    type Value = Vec<Arc<message::Model>>;
    const ASKER: Asker = talker;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let parents: Vec<MessageId> = keys.iter().filter_map(|key| key.parent).collect();
        let roots_of: Vec<ConversationId> = keys
            .iter()
            .filter(|key| key.parent.is_none())
            .map(|key| key.conversation)
            .collect();
        let rows = tree::siblings(scope, &**source.tx().await?, &parents, &roots_of).await?;
        let mut found: HashMap<Self, Self::Value> = HashMap::new();
        for row in rows {
            found.entry(Self::of(&row)).or_default().push(Arc::new(row));
        }
        Ok(found)
    }
}
