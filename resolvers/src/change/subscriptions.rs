//! Following what changes in the tenant.

use async_graphql::{
    Context, Error, ErrorExtensions, Result, Subscription, resolver_utils::enum_value,
};
use auth::{Authority, Identity};
use engine::{changes::Changes, follow::EventsError};
use entities::CommandError;
use futures_util::{Stream, stream};
use loaders::Reader;

use super::{enums::ResourceKind, objects::Change};
use crate::{
    asking::ContextExt,
    errors::ErrorCode,
    following::{self, Place},
    scalars::Cursor,
};

/// Why nothing is told, or nothing more.
fn failed(error: EventsError) -> Error {
    match error {
        EventsError::Cursor(wrong) => wrong.into(),
        EventsError::Forbidden => CommandError::Forbidden(None).into(),
        // The stream is there as long as its tenant is.
        EventsError::NotFound => CommandError::Unauthenticated("the tenant is gone").into(),
        EventsError::Database(cause) => {
            tracing::error!(
                error = &cause as &dyn std::error::Error,
                "failed to read the changes of a tenant"
            );
            Error::new("the changes can't be read at the moment; come back with your last cursor")
                .extend_with(|_, set| set.set("code", enum_value(ErrorCode::Unavailable)))
        }
    }
}

/// Changes, and to whom they are told.
struct Feed {
    changes: Changes,
    kinds: Option<Vec<entities::ResourceKind>>,
    authority: Authority,
    identity: Identity,
    reader: Reader,
    place: Option<Place>,
}

impl Feed {
    fn is_now(&mut self, identity: Identity) {
        if identity.scope() != self.identity.scope() {
            self.reader.renew_as(identity.scope().clone());
        }
        self.identity = identity;
    }

    /// The next change that the viewer is told.
    async fn next(&mut self) -> Result<Change> {
        loop {
            let change = self.changes.next().await.map_err(failed)?;
            // Before he is told of it: what comes next he sees as who he is then.
            if change.is_of_standing(self.identity.user().id) {
                let identity = self.authority.afresh(&self.identity).await?;
                self.is_now(identity);
            }
            let wanted = |kinds: &Vec<_>| kinds.contains(&change.kind);
            if !self.kinds.as_ref().is_none_or(wanted) {
                continue;
            }
            // Who he is now, and may do: it may be long since he subscribed, and his connection may have another token by now.
            let identity = self.authority.still(&self.identity).await?;
            self.is_now(identity);
            let action = change.action_for(self.identity.scope());
            let seq = change.seq;
            if let Some(change) = action.and_then(|action| Change::of(change, action)) {
                if let Some(place) = &self.place {
                    place.set(self.changes.cursor(seq));
                }
                return Ok(change);
            }
        }
    }
}

/// After an error there are none.
fn told(feed: Feed) -> impl Stream<Item = Result<Change>> {
    stream::unfold(Some(feed), async |feed| {
        let mut feed = feed?;
        match feed.next().await {
            Ok(change) => Some((Ok(change), Some(feed))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

/// Following what changes in the tenant.
#[derive(Default)]
pub struct ChangeSubscription;

#[Subscription]
impl ChangeSubscription {
    /// A change of anything that the viewer may see: for lists that stay fresh without asking again. Several changes of one thing
    /// may come as one. With `after`, first what came later than that, then what comes; left out: from now.
    async fn changes(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "A cursor of these changes: `cursor` of one of them, or of the viewer. They are kept for 7 days unless set \
                    otherwise; with an older one the answer is CURSOR_EXPIRED: read the lists anew with `Viewer.cursor`, and go \
                    on from there."
        )]
        after: Option<Cursor>,
        #[graphql(desc = "What to be told of; left out: everything.")] kinds: Option<
            Vec<ResourceKind>,
        >,
    ) -> Result<impl Stream<Item = Result<Change>> + use<>> {
        let scope = ctx.scope()?;
        let missing = CommandError::Unauthenticated("this needs a credential");
        let identity = ctx.identity().ok_or(missing)?;
        let after = following::after(ctx, after.as_ref());
        let changes = ctx.engine().changes(&scope, after).await.map_err(failed)?;
        Ok(told(Feed {
            changes,
            kinds: kinds.map(|kinds| kinds.into_iter().map(Into::into).collect()),
            authority: ctx.authority().clone(),
            identity,
            reader: ctx.reader().clone(),
            place: ctx.data_opt().cloned(),
        }))
    }
}
