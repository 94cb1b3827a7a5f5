//! What the specification asks of arguments and variables, and async-graphql does not look at.

use upstream_async_graphql::{
    ServerError, Variables, parser::types::ExecutableDocument, registry::Registry,
};

/// What of a schema it takes to hold documents and variables to these rules.
#[derive(Debug)]
pub struct Rules {}

impl Rules {
    /// Those of a schema, whose root types for queries, mutations and subscriptions have these names.
    #[must_use]
    pub fn new(_registry: &Registry, _roots: [String; 3]) -> Self {
        Self {}
    }

    /// What is wrong with a document, whatever values its variables get.
    #[must_use]
    pub fn check(&self, _doc: &ExecutableDocument) -> Vec<ServerError> {
        Vec::new()
    }

    /// Coerces the values of the chosen operation's variables, before defaults are added.
    ///
    /// # Errors
    /// What is wrong with them: the request is not to be executed.
    pub fn coerce(
        &self,
        _doc: &ExecutableDocument,
        _operation: Option<&str>,
        _variables: &mut Variables,
    ) -> Result<(), Vec<ServerError>> {
        Ok(())
    }
}
