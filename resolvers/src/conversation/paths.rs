//! Pages of the messages along a branch.
//!
//! A branch is no list that a database orders: see [`entities::tree::Path::page`] for its places.

use std::sync::Arc;

use async_graphql::{Context, Result};
use entities::{
    message,
    page::{Page, Rows},
    tree::Stop,
};
use uuid::Uuid;

use crate::{
    connection::{Connection, Paging},
    message::Message,
};

/// Name of the list in its cursors.
const MESSAGES: &str = "conversation.messages";

type Along = (i64, Uuid);

/// The page that these arguments ask for.
pub(super) fn page(ctx: &Context<'_>, paging: &Paging) -> Result<Page> {
    paging.read::<Along>(ctx, MESSAGES)
}

/// A page of messages with their stops.
pub(super) fn connection(
    rows: Rows<(Stop, Arc<message::Model>)>,
    total: usize,
) -> Connection<Message> {
    let place = |(stop, _): &(Stop, _)| (stop.depth, stop.message.0);
    let total = u64::try_from(total).unwrap_or(u64::MAX);
    let total = (total <= entities::page::COUNTED).then_some(total);
    Connection::new(MESSAGES, rows, place, |(_, row)| Message::from(row))
        .counted(move || async move { Ok(total) })
}
