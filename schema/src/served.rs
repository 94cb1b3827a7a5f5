//! The schema as it answers. What is generic in it is made here, once: whoever serves it sees a boxed future, and is neither
//! compiled anew with each type nor asked whether all of them are `Send`.

use std::sync::Arc;

use async_graphql::{Request, Response, finish, parser::types::ExecutableDocument};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::BoxStream};
use resolvers::errors;

use crate::{RootTypes, Schema};

/// A schema with all the data that its resolvers need. Clones are the same.
#[derive(Clone)]
pub struct Served {
    schema: Schema,
    roots: Arc<RootTypes>,
}

impl Served {
    /// Serves `schema`.
    #[must_use]
    pub fn new(schema: Schema) -> Self {
        Self {
            schema,
            roots: Arc::new(RootTypes::new()),
        }
    }

    /// Answers a query or mutation, finished: keys in order, nulls where they belong, errors with their codes and without what
    /// is not for clients. `document` is what the request holds.
    pub fn execute(
        &self,
        request: Request,
        document: Arc<ExecutableDocument>,
    ) -> BoxFuture<'static, Response> {
        let served = self.clone();
        async move {
            let name = request.operation_name.clone();
            let response = served.schema.execute(request).await;
            served.finished(response, &document, name.as_deref())
        }
        .boxed()
    }

    /// The same for each event of a subscription.
    pub fn execute_stream(
        &self,
        request: Request,
        document: Arc<ExecutableDocument>,
    ) -> BoxStream<'static, Response> {
        let (served, name) = (self.clone(), request.operation_name.clone());
        self.schema
            .execute_stream(request)
            .map(move |response| served.finished(response, &document, name.as_deref()))
            .boxed()
    }

    fn finished(
        &self,
        mut response: Response,
        document: &ExecutableDocument,
        name: Option<&str>,
    ) -> Response {
        response.errors.iter_mut().for_each(errors::describe);
        finish(&mut response, document, name, |kind, field| {
            self.roots.of(kind, field)
        });
        response
    }
}
