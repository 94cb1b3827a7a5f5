//! A subscription goes on for as long as whoever follows may: what he may do is looked at while it runs, not only when it begins.

use async_graphql::{
    Response,
    parser::types::{ExecutableDocument, Field, Selection, SelectionSet},
};
use auth::{Identity, Rights};
use entities::CommandError;
use futures_util::{
    StreamExt,
    future::OptionFuture,
    stream::{self, BoxStream},
};
use resolvers::following::goes_on;

use crate::edge::{Code, Operation, Refused, Told};

/// Selections in each other that are looked into for the root field; the edge lets no more through.
const LEVELS: usize = 64;

/// The root field of a subscription; empty where it has none, which is refused when it is executed.
pub(super) fn root_field(operation: &Operation) -> String {
    let name = operation.request.operation_name.as_deref();
    let root = root(&operation.document, name);
    root.map_or_else(String::new, |root| root.name.node.to_string())
}

/// The first field of an operation; `None` where it has none, which is refused when it is executed.
pub(super) fn root<'d>(document: &'d ExecutableDocument, name: Option<&str>) -> Option<&'d Field> {
    let chosen = async_graphql::chosen(document, name)?;
    first(&chosen.selection_set.node, document, LEVELS)
}

fn first<'d>(
    set: &'d SelectionSet,
    document: &'d ExecutableDocument,
    levels: usize,
) -> Option<&'d Field> {
    let levels = levels.checked_sub(1)?;
    set.items.iter().find_map(|item| match &item.node {
        Selection::Field(field) => Some(&field.node),
        Selection::InlineFragment(fragment) => {
            first(&fragment.node.selection_set.node, document, levels)
        }
        Selection::FragmentSpread(spread) => {
            let fragment = document.fragments.get(&spread.node.fragment_name.node)?;
            first(&fragment.node.selection_set.node, document, levels)
        }
    })
}

/// Looks after one who follows.
pub(super) struct Guard(Option<(Rights, String)>);

impl Guard {
    /// Whoever follows a subscription of the root field `field`; one who asks without a credential has no rights to lose.
    pub(super) fn new(rights: Option<Rights>, field: String) -> Self {
        Self(rights.map(|rights| (rights, field)))
    }

    /// The events up to the loss of what the subscription needs, then FORBIDDEN; none while that can't be looked at. `renew` is
    /// told of every other change of what he may do.
    pub(super) fn watch(
        self,
        events: BoxStream<'static, Told>,
        renew: impl FnMut(&Identity) + Send + 'static,
    ) -> BoxStream<'static, Told> {
        let Some((rights, field)) = self.0 else {
            return events;
        };
        // in a box, as `unfold` passes it on between events
        let following = Box::new(Following {
            events,
            held: None,
            rights,
            field,
            renew,
        });
        stream::unfold(Some(following), async |following| {
            let mut following = following?;
            match following.next().await? {
                Ok(told) => Some((told, Some(following))),
                Err(error) => Some((forbidden(&error).into(), None)),
            }
        })
        .boxed()
    }
}

struct Following<F> {
    events: BoxStream<'static, Told>,
    /// An event that came while nobody could look whether he may still be told it.
    held: Option<Told>,
    rights: Rights,
    field: String,
    renew: F,
}

impl<F: FnMut(&Identity)> Following<F> {
    /// The next event, or why there are no more for him.
    async fn next(&mut self) -> Option<Result<Told, CommandError>> {
        loop {
            if self.rights.are_known()
                && let Some(told) = self.held.take()
            {
                return Some(Ok(told));
            }
            let before = self.rights.identity().clone();
            let looked =
                OptionFuture::from(self.held.is_some().then(|| Box::pin(self.rights.looked())));
            tokio::select! {
                biased;
                now = self.rights.changed() => {
                    if let Err(error) = goes_on(&self.field, before.scope(), now.scope()) {
                        return Some(Err(error));
                    }
                    (self.renew)(&now);
                }
                Some(()) = looked => {}
                // What of an event was under way when this is dropped goes on when it is asked again.
                event = self.events.next(), if self.held.is_none() => self.held = Some(event?),
            }
        }
    }
}

fn forbidden(error: &CommandError) -> Response {
    let message = match error {
        CommandError::Forbidden(Some(needed)) => {
            format!("the permission {} is gone", name(*needed))
        }
        _ => "what the credential may do has changed; subscribe again".to_owned(),
    };
    Response::from_errors(vec![Refused::new(Code::Forbidden, message).into_error()])
}

/// As the contract spells it.
fn name(permission: entities::Permission) -> String {
    serde_json::to_value(permission)
        .ok()
        .and_then(|name| name.as_str().map(str::to_owned))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_graphql::{Request, parser::parse_query, parser::types::OperationType};

    use super::*;

    fn field_of(text: &str, name: Option<&str>) -> String {
        let mut request = Request::new(text);
        request.operation_name = name.map(str::to_owned);
        root_field(&Operation {
            request,
            document: Arc::new(parse_query(text).unwrap()),
            may_be_raw: false,
            kind: OperationType::Subscription,
            request_id: String::new(),
            wants_cursors: false,
            after: None,
        })
    }

    #[test]
    fn root_fields() {
        for text in [
            "subscription { one: runEvents(runId: 1) { at } }",
            "subscription { ... { ...a } } fragment a on Subscription { runEvents }",
            "subscription { ... on Subscription { runEvents } }",
        ] {
            assert_eq!(field_of(text, None), "runEvents", "{text}");
        }
        let two = "subscription a { changes { at } } subscription b { runEvents }";
        assert_eq!(field_of(two, Some("b")), "runEvents");
        assert_eq!(field_of(two, Some("c")), "");
        assert_eq!(field_of("subscription { ...a }", None), "");
        let circle = "subscription { ...a } fragment a on Subscription { ...a }";
        assert_eq!(field_of(circle, None), "");
    }
}
