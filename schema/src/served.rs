//! The schema as it answers. What is generic in it is made here, once: whoever serves it sees a boxed future, and is neither
//! compiled anew with each type nor asked whether all of them are `Send`.

use std::sync::Arc;

use async_graphql::{
    Request, Response, Rules, ServerError, coerce_variables, finish,
    parser::types::ExecutableDocument,
};
use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use resolvers::errors;

use crate::{RootTypes, Schema};

/// A schema with all the data that its resolvers need. Clones are the same.
#[derive(Clone)]
pub struct Served {
    schema: Schema,
    roots: Arc<RootTypes>,
    rules: Arc<Rules>,
}

impl Served {
    /// Serves `schema`.
    #[must_use]
    pub fn new(schema: Schema) -> Self {
        Self {
            schema,
            roots: Arc::new(RootTypes::new()),
            rules: Arc::new(Rules::new(&crate::registry(), crate::roots())),
        }
    }

    /// What is wrong with a document that async-graphql would not find, whatever values its variables get.
    #[must_use]
    pub fn check(&self, document: &ExecutableDocument) -> Vec<ServerError> {
        self.rules.check(document)
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
            let response = match served.ready(request, &document) {
                Ok(request) => served.schema.execute(request).await,
                Err(errors) => Response::from_errors(errors),
            };
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
        let responses = match self.ready(request, &document) {
            Ok(request) => self.schema.execute_stream(request).boxed(),
            Err(errors) => stream::iter([Response::from_errors(errors)]).boxed(),
        };
        responses
            .map(move |response| served.finished(response, &document, name.as_deref()))
            .boxed()
    }

    /// The request with its variables coerced, and a document of its own that fits them.
    fn ready(
        &self,
        mut request: Request,
        document: &ExecutableDocument,
    ) -> Result<Request, Vec<ServerError>> {
        let name = request.operation_name.as_deref();
        self.rules.coerce(document, name, &mut request.variables)?;
        let mut own = document.clone();
        coerce_variables(&mut own, name, &mut request.variables);
        request.set_parsed_query(own);
        Ok(request)
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
