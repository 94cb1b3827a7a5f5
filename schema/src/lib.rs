//! The promise: the roots put together from the domains of the graph, and the SDL that clients build on.
//!
//! `schema.graphql` beside this crate is that SDL, sorted; a test holds it to the code, and `weft schema` writes it.

#![recursion_limit = "1024"]

mod audience;
pub mod cost;
mod served;

use std::collections::HashMap;

use async_graphql::{
    MergedObject, MergedSubscription, OutputType, SDLExportOptions, SchemaBuilder,
    SubscriptionType, parser::types::OperationType, registry::Registry,
};
use resolvers::{
    agent::{AgentMutation, AgentQuery, AgentSpec},
    change::ChangeSubscription,
    conversation::{ConversationMutation, ConversationQuery, ConversationSubscription},
    group::{GroupMutation, GroupQuery},
    identity::{
        IdentityMutation, IdentityQuery, MemberMutation, OidcMutation, SessionMutation,
        TenantMutation,
    },
    message::MessageMutation,
    model::{ModelMutation, ModelQuery},
    node::NodeQuery,
    run::{RunMutation, RunQuery},
    service::ServiceQuery,
    sharing::{ShareMutation, Shareable},
    tenant::{InvitationMutation, TenantQuery},
};

pub use audience::{Audience, Audiences, Shared};
pub use served::Served;

/// What can be asked for. Where nothing else is said it needs a credential, and is UNAUTHENTICATED without one.
#[derive(Default, MergedObject)]
pub struct Query(
    ServiceQuery,
    IdentityQuery,
    TenantQuery,
    GroupQuery,
    NodeQuery,
    ModelQuery,
    AgentQuery,
    ConversationQuery,
    RunQuery,
);

/// What can be done: each by one input, answered by a payload with what changed and with `errors` that a caller can act on. What
/// he can't act on stands in the `errors` of the whole answer, each with a code of `ErrorCode` in its `extensions`.
#[derive(Default, MergedObject)]
pub struct Mutation(
    IdentityMutation,
    SessionMutation,
    TenantMutation,
    MemberMutation,
    InvitationMutation,
    GroupMutation,
    ShareMutation,
    OidcMutation,
    ModelMutation,
    AgentMutation,
    ConversationMutation,
    MessageMutation,
    RunMutation,
);

/// What can be followed. Each event has a cursor: whoever comes back with `after` goes on from it without a gap and without a
/// repeat.
#[derive(Default, MergedSubscription)]
pub struct Subscription(ConversationSubscription, ChangeSubscription);

/// The schema as it is served.
pub type Schema = async_graphql::Schema<Query, Mutation, Subscription>;

/// The schema without the data that its resolvers need: see [`resolvers::ContextExt`].
#[must_use]
pub fn build() -> SchemaBuilder<Query, Mutation, Subscription> {
    Schema::build(
        Query::default(),
        Mutation::default(),
        Subscription::default(),
    )
    // No field answers them: they say what their members have in common.
    .register_output_type::<Shareable>()
    .register_output_type::<AgentSpec>()
}

/// The schema in the Schema Definition Language, sorted, so that a change shows where it is.
#[must_use]
pub fn sdl() -> String {
    let options = SDLExportOptions::new()
        .sorted_fields()
        .sorted_arguments()
        .sorted_enum_items()
        .include_specified_by();
    build().finish().sdl_with_options(options)
}

/// All types of the schema. The library keeps its own to itself.
fn registry() -> Registry {
    let mut registry = Registry::default();
    <Query as OutputType>::create_type_info(&mut registry);
    <Mutation as OutputType>::create_type_info(&mut registry);
    <Subscription as SubscriptionType>::create_type_info(&mut registry);
    <Shareable as OutputType>::create_type_info(&mut registry);
    <AgentSpec as OutputType>::create_type_info(&mut registry);
    registry
}

/// The names of the root types: of queries, mutations and subscriptions.
fn roots() -> [String; 3] {
    [
        <Query as OutputType>::type_name().into_owned(),
        <Mutation as OutputType>::type_name().into_owned(),
        <Subscription as SubscriptionType>::type_name().into_owned(),
    ]
}

/// The types of root fields as in SDL, which [`async_graphql::finish`] asks for.
#[derive(Debug)]
pub struct RootTypes {
    query: HashMap<String, String>,
    mutation: HashMap<String, String>,
    subscription: HashMap<String, String>,
}

impl RootTypes {
    /// Those of this schema.
    #[must_use]
    pub fn new() -> Self {
        let registry = registry();
        let fields = |root: &str| {
            let fields = registry.types.get(root).and_then(|root| root.fields());
            fields
                .into_iter()
                .flatten()
                .map(|(name, field)| (name.clone(), field.ty.clone()))
                .collect()
        };
        let [query, mutation, subscription] = roots();
        Self {
            query: fields(&query),
            mutation: fields(&mutation),
            subscription: fields(&subscription),
        }
    }

    /// The type of a root field; empty for one that is not there.
    #[must_use]
    pub fn of(&self, operation: OperationType, field: &str) -> &str {
        let fields = match operation {
            OperationType::Query => &self.query,
            OperationType::Mutation => &self.mutation,
            OperationType::Subscription => &self.subscription,
        };
        fields.get(field).map_or("", String::as_str)
    }
}

impl Default for RootTypes {
    fn default() -> Self {
        Self::new()
    }
}
