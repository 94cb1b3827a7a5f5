//! What the specification asks of arguments and variables, and async-graphql does not look at: it validates what is left of a
//! document after [`coerce_variables`](crate::coerce_variables), and not where variables may stand at all.
//!
//! Messages are those of graphql-js.

use upstream_async_graphql::{
    Pos, ServerError, Variables, parser::types::ExecutableDocument, registry::Registry,
};

mod document;
mod merging;
mod shown;
mod types;
mod values;

/// What of a schema it takes to hold documents and variables to these rules.
#[derive(Debug)]
pub struct Rules {
    types: types::Types,
}

/// graphql-js tells so many, too.
const MOST: usize = 100;

impl Rules {
    /// Those of a schema, whose root types for queries, mutations and subscriptions have these names.
    #[must_use]
    pub fn new(registry: &Registry, roots: [String; 3]) -> Self {
        Self {
            types: types::Types::new(registry, roots),
        }
    }

    /// What is wrong with a document, whatever values its variables get: in the order of the text, and the first hundred
    /// if there is more.
    #[must_use]
    pub fn check(&self, doc: &ExecutableDocument) -> Vec<ServerError> {
        let mut errors = document::check(&self.types, doc);
        merging::check(&self.types, doc, &mut errors, 10 * MOST);
        errors.sort_by_cached_key(|error| {
            let places: Vec<_> = error
                .locations
                .iter()
                .map(|at| (at.line, at.column))
                .collect();
            (places, error.message.clone())
        });
        if errors.len() > MOST {
            errors.truncate(MOST);
            let message =
                "Too many validation errors, error limit reached. Validation aborted.".into();
            errors.push(failure(message, Vec::new()));
        }
        errors
    }

    /// Coerces the values of the chosen operation's variables, before defaults are added.
    ///
    /// # Errors
    /// What is wrong with them: the request is not to be executed.
    pub fn coerce(
        &self,
        doc: &ExecutableDocument,
        operation: Option<&str>,
        variables: &mut Variables,
    ) -> Result<(), Vec<ServerError>> {
        values::coerce(&self.types, doc, operation, variables)
    }
}

fn failure(message: String, locations: Vec<Pos>) -> ServerError {
    ServerError {
        message,
        source: None,
        locations,
        path: Vec::new(),
        extensions: None,
    }
}
