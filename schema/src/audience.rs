//! For whom an event of a subscription says the same.
//!
//! Where every field that a document selects is the same for whoever may see the conversation, its events are made once for all
//! of them. Which fields are is written down here, field by field; what is not written down is taken to depend on who asks.

use std::collections::HashMap;

use async_graphql::{
    Name, SubscriptionType, Written,
    parser::types::{ExecutableDocument, Field, Selection, SelectionSet},
    registry::MetaType,
};

use crate::Subscription;

/// For whom the events of a subscription say the same. Ordered: the widest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    /// Everybody who may see the conversation.
    Anybody,
    /// Those of them who may manage models, and the others.
    Managers,
    /// Those who ask by one credential, with the same rights.
    Viewer,
}

/// A subscription whose events can be made once for several who follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// For whom.
    pub audience: Audience,
    /// The variable that says where to begin, and nothing else: by it alone, two that follow don't differ.
    pub after: Option<String>,
}

/// The subscriptions that can be shared: they are told from a log, by one root field.
const SHARED: &[&str] = &["conversationEvents", "runEvents"];

/// Fields that are the same for whoever may see the conversation in whose events they stand.
///
/// Before a field is written here: does it read who asks, directly or by what its loader leaves out?
const SAME: &[(&str, &[&str])] = &[
    (
        "Agent",
        &[
            "createdAt",
            "description",
            "hasUnpublishedChanges",
            "id",
            "isEnabled",
            "name",
            "owner",
            "slug",
            "updatedAt",
            "visibility",
        ],
    ),
    (
        "ContextCompacted",
        &[
            "at",
            "conversationId",
            "cursor",
            "message",
            "runId",
            "tokensAfter",
            "tokensBefore",
        ],
    ),
    (
        "Conversation",
        &[
            "activeRun",
            "agent",
            "createdAt",
            "cursor",
            "id",
            "isArchived",
            "lastActivityAt",
            "lastMessage",
            "leaf",
            "messages",
            "owner",
            "runs",
            "title",
            "updatedAt",
            "visibility",
        ],
    ),
    (
        "ConversationUpdated",
        &["at", "conversation", "conversationId", "cursor", "runId"],
    ),
    ("ErrorPart", &["error", "index"]),
    (
        "Message",
        &[
            "agent",
            "author",
            "clientId",
            "conversation",
            "createdAt",
            "id",
            "parent",
            "parentId",
            "parts",
            "role",
            "run",
            "siblings",
            "status",
            "text",
            "updatedAt",
            "usage",
        ],
    ),
    (
        "MessageCompleted",
        &[
            "at",
            "conversationId",
            "cursor",
            "message",
            "messageId",
            "runId",
        ],
    ),
    (
        "MessageConnection",
        &["edges", "nodes", "pageInfo", "totalCount"],
    ),
    (
        "MessageCreated",
        &[
            "at",
            "conversationId",
            "cursor",
            "message",
            "messageId",
            "runId",
        ],
    ),
    ("MessageEdge", &["cursor", "node"]),
    (
        "MessageUpdated",
        &[
            "at",
            "conversationId",
            "cursor",
            "message",
            "messageId",
            "runId",
        ],
    ),
    (
        "MessagesRemoved",
        &["at", "conversationId", "cursor", "messageIds", "runId"],
    ),
    (
        "PageInfo",
        &["endCursor", "hasNextPage", "hasPreviousPage", "startCursor"],
    ),
    (
        "PartAdded",
        &[
            "at",
            "content",
            "conversationId",
            "cursor",
            "messageId",
            "part",
            "runId",
        ],
    ),
    (
        "ReasoningDelta",
        &[
            "at",
            "conversationId",
            "cursor",
            "messageId",
            "offset",
            "part",
            "runId",
            "text",
        ],
    ),
    ("ReasoningPart", &["index", "text"]),
    (
        "Run",
        &[
            "agent",
            "attempts",
            "conversation",
            "createdAt",
            "cursor",
            "error",
            "finishedAt",
            "firstTokenAt",
            "id",
            "input",
            "output",
            "queuePosition",
            "startedAt",
            "status",
            "steps",
            "toolCalls",
            "trigger",
            "usage",
        ],
    ),
    (
        "RunCancelled",
        &["at", "conversationId", "cursor", "run", "runId"],
    ),
    (
        "RunCompleted",
        &["at", "conversationId", "cursor", "run", "runId"],
    ),
    (
        "RunConnection",
        &["edges", "nodes", "pageInfo", "totalCount"],
    ),
    ("RunEdge", &["cursor", "node"]),
    ("RunError", &["kind", "retryable"]),
    (
        "RunFailed",
        &["at", "conversationId", "cursor", "error", "run", "runId"],
    ),
    (
        "RunQueued",
        &["at", "conversationId", "cursor", "position", "run", "runId"],
    ),
    (
        "RunStarted",
        &["at", "attempt", "conversationId", "cursor", "run", "runId"],
    ),
    (
        "RunStep",
        &[
            "finishReason",
            "finishedAt",
            "index",
            "latencyMs",
            "startedAt",
            "timeToFirstTokenMs",
            "toolCalls",
            "usage",
        ],
    ),
    (
        "RunUpdated",
        &["at", "conversationId", "cursor", "run", "runId"],
    ),
    (
        "StepFinished",
        &["at", "conversationId", "cursor", "result", "runId", "step"],
    ),
    (
        "StepRestarted",
        &[
            "at",
            "conversationId",
            "cursor",
            "fromPart",
            "messageId",
            "reason",
            "runId",
            "step",
        ],
    ),
    (
        "StepStarted",
        &["at", "conversationId", "cursor", "runId", "step"],
    ),
    (
        "TextDelta",
        &[
            "at",
            "conversationId",
            "cursor",
            "messageId",
            "offset",
            "part",
            "runId",
            "text",
        ],
    ),
    ("TextPart", &["index", "text"]),
    (
        "ToolCall",
        &[
            "arguments",
            "errorMessage",
            "finishedAt",
            "id",
            "name",
            "result",
            "run",
            "startedAt",
            "status",
        ],
    ),
    (
        "ToolCallArgumentsDelta",
        &[
            "at",
            "conversationId",
            "cursor",
            "offset",
            "runId",
            "text",
            "toolCallId",
        ],
    ),
    (
        "ToolCallFinished",
        &[
            "at",
            "conversationId",
            "cursor",
            "runId",
            "toolCall",
            "toolCallId",
        ],
    ),
    ("ToolCallPart", &["index", "toolCall"]),
    (
        "ToolCallStarted",
        &[
            "at",
            "conversationId",
            "cursor",
            "messageId",
            "part",
            "runId",
            "toolCall",
            "toolCallId",
        ],
    ),
    (
        "Usage",
        &[
            "cachedInputTokens",
            "cost",
            "currency",
            "inputTokens",
            "outputTokens",
            "reasoningTokens",
        ],
    ),
    (
        "User",
        &[
            "createdAt",
            "id",
            "isActive",
            "isManaged",
            "kind",
            "lastSeenAt",
            "name",
        ],
    ),
];

/// Fields of the types above that depend on MODELS_MANAGE and on nothing else of who asks.
const MANAGERS: &[(&str, &[&str])] = &[("RunError", &["message"])];

/// Fields of the types above that depend on who asks. Nothing reads this but the test that each field stands somewhere.
#[cfg(test)]
const VIEWERS: &[(&str, &[&str])] = &[
    (
        "Agent",
        &[
            // of those who may see more than that it is there
            "draft",
            "greeting",
            "instructions",
            "maxOutputTokens",
            "maxSteps",
            "model",
            "starters",
            "temperature",
            "version",
            "versions",
            // the viewer's own
            "conversations",
            "lastRun",
            // what lacks for it to run, by the models that the viewer sees
            "problems",
            "usage",
            "viewerAccess",
            // of those who see the group, or may share it
            "group",
            "shares",
        ],
    ),
    (
        "Conversation",
        &["group", "shares", "usage", "viewerAccess"],
    ),
    ("Message", &["model", "rating", "ratingComment"]),
    ("Run", &["agentVersion", "model"]),
    ("RunStep", &["model"]),
    ("User", &["email"]),
];

/// How deep selections are looked at. The edge lets fewer through.
const DEEPEST: usize = 200;

/// What of the schema is needed to tell for whom a document says the same.
#[derive(Debug)]
pub struct Audiences {
    /// The type of each field of each type, without lists and nulls.
    fields: HashMap<String, HashMap<String, String>>,
    /// The objects that an interface or union may be.
    possible: HashMap<String, Vec<String>>,
    /// The name of the root.
    root: String,
}

impl Audiences {
    /// Those of this schema.
    #[must_use]
    pub fn new() -> Self {
        let registry = crate::registry();
        let named = |ty: &str| ty.trim_matches(['[', ']', '!']).to_owned();
        let (mut fields, mut possible) = (HashMap::new(), HashMap::new());
        for (name, ty) in &registry.types {
            let types = ty.fields().into_iter().flatten();
            fields.insert(
                name.clone(),
                types
                    .map(|(field, of)| (field.clone(), named(&of.ty)))
                    .collect(),
            );
            if let MetaType::Interface { possible_types, .. }
            | MetaType::Union { possible_types, .. } = ty
            {
                possible.insert(name.clone(), possible_types.iter().cloned().collect());
            }
        }
        Self {
            fields,
            possible,
            root: <Subscription as SubscriptionType>::type_name().into_owned(),
        }
    }

    /// Whether and for whom the events of an operation can be made together; `None`: for each on his own. `name` is the
    /// operation's where there are several.
    #[must_use]
    pub fn shared(&self, document: &ExecutableDocument, name: Option<&str>) -> Option<Shared> {
        let operation = async_graphql::chosen(document, name)?;
        let [root] = operation.selection_set.node.items.as_slice() else {
            return None;
        };
        let Selection::Field(field) = &root.node else {
            return None;
        };
        let field = &field.node;
        let is_plain = field.directives.is_empty() && operation.directives.is_empty();
        if !is_plain || !SHARED.contains(&field.name.node.as_str()) {
            return None;
        }
        let told = self.fields.get(&self.root)?.get(field.name.node.as_str())?;
        Some(Shared {
            audience: self.audience(document, &field.selection_set.node, told, DEEPEST),
            after: after(document, field),
        })
    }

    /// For whom everything that `set` selects on `ty` is the same.
    fn audience(
        &self,
        document: &ExecutableDocument,
        set: &SelectionSet,
        ty: &str,
        deeper: usize,
    ) -> Audience {
        let Some(deeper) = deeper.checked_sub(1) else {
            return Audience::Viewer;
        };
        let mut audience = Audience::Anybody;
        for item in &set.items {
            if audience == Audience::Viewer {
                break;
            }
            let of = match &item.node {
                Selection::Field(field) => {
                    let name = field.node.name.node.as_str();
                    if name == "__typename" {
                        continue;
                    }
                    let fields = self.fields.get(ty);
                    match fields.and_then(|fields| fields.get(name)) {
                        Some(of) => self.of_field(ty, name).max(self.audience(
                            document,
                            &field.node.selection_set.node,
                            of,
                            deeper,
                        )),
                        None => Audience::Viewer,
                    }
                }
                Selection::InlineFragment(fragment) => {
                    let on = fragment.node.type_condition.as_ref();
                    let ty = on.map_or(ty, |on| on.node.on.node.as_str());
                    self.audience(document, &fragment.node.selection_set.node, ty, deeper)
                }
                Selection::FragmentSpread(spread) => {
                    match document.fragments.get(&spread.node.fragment_name.node) {
                        Some(fragment) => {
                            let ty = fragment.node.type_condition.node.on.node.as_str();
                            self.audience(document, &fragment.node.selection_set.node, ty, deeper)
                        }
                        None => Audience::Viewer,
                    }
                }
            };
            audience = audience.max(of);
        }
        audience
    }

    fn of_field(&self, ty: &str, field: &str) -> Audience {
        let of = |ty: &str| {
            if named(SAME, ty, field) {
                Audience::Anybody
            } else if named(MANAGERS, ty, field) {
                Audience::Managers
            } else {
                Audience::Viewer
            }
        };
        match self.possible.get(ty) {
            Some(objects) => {
                let widest = objects.iter().map(|object| of(object)).max();
                widest.unwrap_or(Audience::Viewer)
            }
            None => of(ty),
        }
    }
}

impl Default for Audiences {
    fn default() -> Self {
        Self::new()
    }
}

fn named(table: &[(&str, &[&str])], ty: &str, field: &str) -> bool {
    table
        .iter()
        .any(|(name, fields)| *name == ty && fields.contains(&field))
}

/// The variable of the root's `after`, where nothing else reads it.
fn after(document: &ExecutableDocument, root: &Field) -> Option<String> {
    let Written::Variable(name) = &root.get_argument("after")?.node else {
        return None;
    };
    let sets = document
        .operations
        .iter()
        .map(|(_, operation)| &operation.node.selection_set.node)
        .chain(
            document
                .fragments
                .values()
                .map(|fragment| &fragment.node.selection_set.node),
        );
    let uses: usize = sets.map(|set| uses(set, name)).sum();
    (uses == 1).then(|| name.to_string())
}

/// How often a selection reads a variable, without the fragments that it spreads.
fn uses(set: &SelectionSet, name: &Name) -> usize {
    fn within(value: &Written, name: &Name) -> usize {
        match value {
            Written::Variable(variable) => usize::from(variable == name),
            Written::List(values) => values.iter().map(|value| within(value, name)).sum(),
            Written::Object(values) => values.values().map(|value| within(value, name)).sum(),
            _ => 0,
        }
    }
    set.items
        .iter()
        .map(|item| {
            let (directives, set) = match &item.node {
                Selection::Field(field) => (
                    &field.node.directives,
                    Some((&field.node.selection_set.node, &field.node.arguments)),
                ),
                Selection::InlineFragment(fragment) => (&fragment.node.directives, None),
                Selection::FragmentSpread(spread) => (&spread.node.directives, None),
            };
            let mut count: usize = directives
                .iter()
                .flat_map(|directive| &directive.node.arguments)
                .map(|(_, value)| within(&value.node, name))
                .sum();
            if let Some((set, arguments)) = set {
                count += arguments
                    .iter()
                    .map(|(_, value)| within(&value.node, name))
                    .sum::<usize>();
                count += uses(set, name);
            }
            if let Selection::InlineFragment(fragment) = &item.node {
                count += uses(&fragment.node.selection_set.node, name);
            }
            count
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use async_graphql::parser::parse_query;

    use super::*;

    fn shared(text: &str) -> Option<Shared> {
        Audiences::new().shared(&parse_query(text).unwrap(), None)
    }

    fn audience(selection: &str) -> Audience {
        let text = format!(
            "subscription {{ conversationEvents(conversationId: \"c\") {{ {selection} }} }}"
        );
        shared(&text).unwrap().audience
    }

    /// A field that is new here: is it the same for whoever may see the conversation? Then it goes into `SAME`, else into
    /// `VIEWERS`.
    #[test]
    fn every_field_that_an_event_may_show_is_of_one_kind() {
        let audiences = Audiences::new();
        let mut next = vec!["ConversationEvent".to_owned()];
        let mut seen = BTreeSet::new();
        let mut wrong = Vec::new();
        while let Some(ty) = next.pop() {
            if !seen.insert(ty.clone()) {
                continue;
            }
            if let Some(objects) = audiences.possible.get(&ty) {
                next.extend(objects.iter().cloned());
                continue;
            }
            let Some(fields) = audiences.fields.get(&ty) else {
                continue;
            };
            for (field, of) in fields {
                let kinds = [SAME, MANAGERS, VIEWERS].map(|table| named(table, &ty, field));
                if kinds.iter().filter(|of_it| **of_it).count() != 1 {
                    wrong.push(format!("{ty}.{field}"));
                } else if !kinds[2] {
                    next.push(of.clone());
                }
            }
        }
        assert!(wrong.is_empty(), "in none or in several: {wrong:?}");
        for (ty, fields) in SAME.iter().chain(MANAGERS).chain(VIEWERS) {
            for field in *fields {
                let there = audiences
                    .fields
                    .get(*ty)
                    .is_some_and(|of| of.contains_key(*field));
                assert!(there, "{ty}.{field} is not there any more");
            }
            assert!(seen.contains(*ty), "{ty} is shown by no event");
        }
    }

    #[test]
    fn one_field_of_a_viewers_own_makes_it_his() {
        for (selection, expected) in [
            ("__typename cursor at", Audience::Anybody),
            (
                "... on TextDelta { text offset } ... { cursor }",
                Audience::Anybody,
            ),
            (
                "... on MessageCompleted { message { text author { name } parts { index ... on TextPart { text } } } }",
                Audience::Anybody,
            ),
            (
                "... on MessageCompleted { message { text author { email } } }",
                Audience::Viewer,
            ),
            (
                "... on MessageCompleted { message { model { name } } }",
                Audience::Viewer,
            ),
            ("... on RunFailed { error { kind } }", Audience::Anybody),
            (
                "... on RunFailed { error { kind message } }",
                Audience::Managers,
            ),
            (
                "... on ConversationUpdated { conversation { viewerAccess } }",
                Audience::Viewer,
            ),
            (
                "... on ConversationUpdated { conversation { agent { name } } }",
                Audience::Anybody,
            ),
            (
                "... on ConversationUpdated { conversation { agent { instructions } } }",
                Audience::Viewer,
            ),
            (
                "... on ConversationUpdated { conversation { messages(first: 3) { nodes { rating } } } }",
                Audience::Viewer,
            ),
            ("nonsense", Audience::Viewer),
            ("...Unknown", Audience::Viewer),
        ] {
            assert_eq!(audience(selection), expected, "{selection}");
        }
        let split = "subscription { runEvents(runId: \"r\") { ...E } } fragment E on RunFailed { error { ...F } } fragment F on RunError { MESSAGE }";
        for (field, expected) in [("kind", Audience::Anybody), ("message", Audience::Managers)] {
            let found = shared(&split.replace("MESSAGE", field)).unwrap();
            assert_eq!(found.audience, expected, "{field}");
        }
        let circle =
            "subscription { runEvents(runId: \"r\") { ...E } } fragment E on RunFailed { ...E }";
        assert_eq!(shared(circle).unwrap().audience, Audience::Viewer);
    }

    #[test]
    fn what_is_not_one_plain_root_is_not_shared() {
        for text in [
            "subscription { a: conversationEvents(conversationId: \"c\") { cursor } b: conversationEvents(conversationId: \"c\") { cursor } }",
            "subscription { conversationEvents(conversationId: \"c\") @include(if: true) { cursor } }",
            "subscription { ... { conversationEvents(conversationId: \"c\") { cursor } } }",
            "subscription { __typename }",
        ] {
            assert_eq!(shared(text), None, "{text}");
        }
    }

    #[test]
    fn a_variable_that_only_says_where_to_begin_is_found() {
        let after = |text: &str| shared(text).unwrap().after;
        let some = "subscription ($a: Cursor, $c: ID!) { conversationEvents(conversationId: $c, after: $a) { cursor } }";
        assert_eq!(after(some), Some("a".to_owned()));
        let twice = "subscription ($a: Cursor, $c: ID!) { conversationEvents(conversationId: $c, after: $a) {
            ... on ConversationUpdated { conversation { messages(after: $a) { totalCount } } } } }";
        assert_eq!(after(twice), None);
        let in_a_fragment = "subscription ($a: Cursor, $c: ID!) { conversationEvents(conversationId: $c, after: $a) { ...E } }
            fragment E on ConversationUpdated { conversation { messages(after: $a) { totalCount } } }";
        assert_eq!(after(in_a_fragment), None);
        let none =
            "subscription { conversationEvents(conversationId: \"c\", after: \"x\") { cursor } }";
        assert_eq!(after(none), None);
    }
}
