//! An object, answered: each field once, side by side, in the order of the document (ExecuteSelectionSet, section 6.3).

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use upstream_async_graphql::{
    ContainerType, Context, ContextSelectionSet, Positioned, ServerError, ServerResult, Value,
    indexmap::IndexMap, parser::types::Field, resolver_utils::resolve_container as stock,
};

use crate::{
    json,
    nulls::{nothing, settle, type_of},
    plan::{Plan, Planned, places},
    tally::Tally,
};

/// How objects are answered; goes into the data of a request. Without it, as [`Mode::Tree`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As trees of [`Value`].
    #[default]
    Tree,
    /// As JSON text in [`Value::Binary`], which only [`to_json`](crate::to_json) and [`tree`](crate::tree) understand. Only for
    /// documents that [`may_be_raw`](crate::may_be_raw).
    Raw,
    /// By async-graphql's own resolver, as it stands. Its answers are in the order of completion and lack the keys that failed:
    /// for comparing, and for extensions that hook `resolve`.
    Stock,
}

/// Answers an object, interface or union; takes the place of async-graphql's function of this name, for its derives.
///
/// # Errors
/// None of a field: those are kept in the context, and the answer says where they are for [`finish`](crate::finish()) to see.
pub async fn resolve_container<'a, T: ContainerType + ?Sized>(
    ctx: &ContextSelectionSet<'a>,
    root: &'a T,
) -> ServerResult<Value> {
    resolve(ctx, root, |_, _, _| None).await
}

/// `plain` writes the JSON of a field that needs no future; `None`: this one does.
pub(crate) async fn resolve<'a, T, P>(
    ctx: &ContextSelectionSet<'a>,
    root: &'a T,
    plain: P,
) -> ServerResult<Value>
where
    T: ContainerType + ?Sized,
    P: Fn(&T, &Context<'_>, &mut Vec<u8>) -> Option<ServerResult<()>> + Send,
{
    let mode = ctx.data_opt::<Mode>().copied().unwrap_or_default();
    if mode == Mode::Stock {
        return Box::pin(stock(ctx, root)).await;
    }
    let name = root.introspection_type_name();
    let mut plan = Plan::default();
    plan.fields.reserve(ctx.item.node.items.len());
    let ours = plan.collect(ctx, &ctx.item.node, &name);
    let tally = ctx.data_opt::<Arc<Tally>>();
    if let Some(tally) = tally {
        tally.count(&name, &plan.fields);
    }
    if ours && name == T::type_name() {
        let object = Object {
            ctx,
            root,
            name: &name,
            null: false,
            bytes: 0,
            tally,
        };
        return Ok(object.answer(&plan.fields, plain, mode == Mode::Raw).await);
    }
    // A custom directive, or an interface or union without `plain_abstract!`: async-graphql's resolver, then order and nulls.
    let mut old = match Box::pin(stock(ctx, root)).await? {
        Value::Object(object) => object,
        _ => IndexMap::new(),
    };
    let mut object = IndexMap::with_capacity(plan.fields.len());
    for field in &plan.fields {
        let key = &field.node.response_key().node;
        let value = old.swap_remove(key).unwrap_or_else(nothing);
        match settle(value, || type_of(ctx, &name, &field.node.name.node)) {
            Some(value) => object.insert(key.clone(), value),
            None => return Ok(nothing()),
        };
    }
    Ok(Value::Object(object))
}

struct Object<'c, 'a, T: ?Sized> {
    ctx: &'c ContextSelectionSet<'a>,
    root: &'a T,
    name: &'c str,
    /// A field that may not be null is, and so the object is.
    null: bool,
    /// What its own fields hold, without the objects that they lead to.
    bytes: usize,
    tally: Option<&'c Arc<Tally>>,
}

/// A field whose future has to wait, and where its answer goes.
struct Hole<'f, F> {
    at: usize,
    field: &'f Positioned<Field>,
    future: Pin<Box<Option<F>>>,
    value: Value,
}

impl<'a, T: ContainerType + ?Sized> Object<'_, 'a, T> {
    async fn answer<P>(mut self, fields: &[Planned<'a>], plain: P, raw: bool) -> Value
    where
        P: Fn(&T, &Context<'_>, &mut Vec<u8>) -> Option<ServerResult<()>> + Send,
    {
        let (ctx, root) = (self.ctx, self.root);
        let mut draft = Draft::new(raw, fields.len());
        let mut holes = Vec::new();
        let mut spare = None; // one box serves all fields that are ready at once
        poll_fn(|cx| {
            for field in fields {
                let field: &Positioned<Field> = field;
                draft.key(field);
                if field.node.name.node == "__typename" {
                    draft.put(Value::String(self.name.to_owned()));
                    continue;
                }
                if let Draft::Text(out) = &mut draft {
                    let before = out.len();
                    match plain(root, &ctx.with_field(field), out) {
                        Some(Ok(())) => {
                            self.bytes += out.len() - before;
                            continue;
                        }
                        Some(Err(error)) => {
                            out.truncate(before);
                            draft.put(self.settled(field, Err(error)));
                            continue;
                        }
                        None => {}
                    }
                }
                let mut future = spare.take().unwrap_or_else(|| Box::pin(None));
                future.set(Some(one(ctx, field, root)));
                match poll(&mut future, cx) {
                    Poll::Ready(answer) => {
                        future.set(None);
                        spare = Some(future);
                        draft.put(self.settled(field, answer));
                    }
                    Poll::Pending => holes.push(Hole {
                        at: draft.hole(),
                        field,
                        future,
                        value: Value::Null,
                    }),
                }
            }
            Poll::Ready(())
        })
        .await;
        drop(spare);
        let mut left = holes.len();
        if left > 0 {
            // They are few per object, and dispatched together: to ask each again costs less than a set of wakers.
            poll_fn(|cx| {
                for hole in &mut holes {
                    if hole.future.is_some()
                        && let Poll::Ready(answer) = poll(&mut hole.future, cx)
                    {
                        hole.value = self.settled(hole.field, answer);
                        hole.future.set(None);
                        left -= 1;
                    }
                }
                if left == 0 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
        let has_room = self.tally.is_none_or(|tally| tally.has_room(self.bytes));
        if self.null || !has_room {
            return nothing();
        }
        draft.finish(
            fields,
            holes
                .into_iter()
                .map(|hole| (hole.at, hole.value))
                .collect(),
        )
    }

    fn settled(&mut self, field: &Positioned<Field>, answer: ServerResult<Option<Value>>) -> Value {
        let value = match answer {
            Ok(value) => value.unwrap_or_default(),
            Err(error) => self.failed(field, error),
        };
        self.bytes += own(&value);
        settle(value, || {
            type_of(self.ctx, self.name, &field.node.name.node)
        })
        .unwrap_or_else(|| {
            self.null = true;
            Value::Null
        })
    }

    /// An error of the field itself, or of an element that it answers: those of fields further down were kept there, and
    /// elements that may be null keep theirs themselves, with the first of the field's places.
    #[cold]
    fn failed(&self, field: &Positioned<Field>, mut error: ServerError) -> Value {
        let places = places(self.ctx, self.name, &field.node.response_key().node);
        if error.locations == [field.pos] && places.len() > 1 {
            error.locations = places;
        }
        self.ctx.add_error(error);
        nothing()
    }
}

/// About how many bytes a value holds itself: objects have counted theirs. (JSON among trees is not told from objects.)
fn own(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::List(list) => list.iter().map(own).sum(),
        _ => 0,
    }
}

/// The future of one field, which owns the context that it is polled with. That it is `Send` is said here, not left to be seen:
/// types refer to each other in circles, and the compiler would follow them.
#[expect(clippy::manual_async_fn, reason = "an async fn can't promise `Send`")]
fn one<'f, T: ContainerType + ?Sized>(
    ctx: &'f ContextSelectionSet<'_>,
    field: &'f Positioned<Field>,
    root: &'f T,
) -> impl Future<Output = ServerResult<Option<Value>>> + Send + 'f {
    async move { root.resolve_field(&ctx.with_field(field)).await }
}

fn poll<F: Future>(
    future: &mut Pin<Box<Option<F>>>,
    cx: &mut std::task::Context<'_>,
) -> Poll<F::Output> {
    future
        .as_mut()
        .as_pin_mut()
        .map_or(Poll::Pending, |future| future.poll(cx))
}

/// An object while it is answered, with holes where a field has to wait.
enum Draft {
    Text(Vec<u8>),
    Tree(Vec<Value>),
}

impl Draft {
    fn new(raw: bool, fields: usize) -> Self {
        if raw {
            Self::Text(Vec::with_capacity(48 * fields))
        } else {
            Self::Tree(Vec::with_capacity(fields))
        }
    }

    fn key(&mut self, field: &Positioned<Field>) {
        if let Self::Text(out) = self {
            out.extend_from_slice(if out.is_empty() { b"{\"" } else { b",\"" });
            // a name: there is nothing to escape
            out.extend_from_slice(field.node.response_key().node.as_bytes());
            out.extend_from_slice(b"\":");
        }
    }

    fn put(&mut self, value: Value) {
        match self {
            Self::Text(out) => json::write(out, &value),
            Self::Tree(values) => values.push(value),
        }
    }

    /// Leaves a hole and says where it is.
    fn hole(&mut self) -> usize {
        match self {
            Self::Text(out) => out.len(),
            Self::Tree(values) => {
                values.push(Value::Null);
                values.len() - 1
            }
        }
    }

    fn finish(self, fields: &[Planned<'_>], holes: Vec<(usize, Value)>) -> Value {
        match self {
            Self::Text(mut out) => {
                out.extend_from_slice(if out.is_empty() { b"{}" } else { b"}" });
                if !holes.is_empty() {
                    let more: usize = holes.iter().map(|(_, value)| json::size(value)).sum();
                    let mut whole = Vec::with_capacity(out.len() + more);
                    let mut from = 0;
                    for (at, value) in &holes {
                        whole.extend_from_slice(&out[from..*at]);
                        json::write(&mut whole, value);
                        from = *at;
                    }
                    whole.extend_from_slice(&out[from..]);
                    out = whole;
                }
                Value::Binary(out.into())
            }
            Self::Tree(mut values) => {
                for (at, value) in holes {
                    values[at] = value;
                }
                let keys = fields
                    .iter()
                    .map(|field| field.node.response_key().node.clone());
                Value::Object(keys.zip(values).collect())
            }
        }
    }
}
