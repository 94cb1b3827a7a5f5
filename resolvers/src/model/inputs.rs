use adapters::sealing::Secret;
use async_graphql::{ID, InputObject, MaybeUndefined};
use engine::models::{CreateModel, Header, Pricing, UpdateModel};
use entities::{CommandError, ModelId, Refusal, input};

use super::enums::{ModelKind, ModelProvider};
use crate::{asking::GivenId, scalars::Decimal, sharing::Visibility};

const GROUP: &[&str] = &["input", "groupId"];

/// What was null and may not be. In updates an absent field is left; null takes off what may be absent.
#[derive(Default)]
pub(crate) struct Nulls(Vec<Refusal>);

impl Nulls {
    /// The value, where there is one; null is refused.
    pub(crate) fn never<T>(&mut self, field: &str, value: MaybeUndefined<T>) -> Option<T> {
        match value {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Value(value) => Some(value),
            MaybeUndefined::Null => {
                self.0.push(Refusal::invalid(
                    &["input", field],
                    format!("{field} can't be null; leave it out to keep it"),
                ));
                None
            }
        }
    }

    /// Goes on where nothing was null that may not be.
    pub(crate) fn none(self) -> Result<(), CommandError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(CommandError::Refused(self.0))
        }
    }
}

/// Absent, null, or a value, as commands take it.
pub(crate) fn cleared<T>(value: MaybeUndefined<T>) -> Option<Option<T>> {
    match value {
        MaybeUndefined::Undefined => None,
        MaybeUndefined::Null => Some(None),
        MaybeUndefined::Value(value) => Some(Some(value)),
    }
}

/// An id or a slug: one of the two has to be given.
pub(crate) fn one_of(id: Option<ID>, slug: Option<String>) -> Result<Result<ID, String>, Refusal> {
    match (id, slug) {
        (Some(id), None) => Ok(Ok(id)),
        (None, Some(slug)) => Ok(Err(slug)),
        (Some(_), Some(_)) => Err(Refusal::invalid(&["slug"], "give `id` or `slug`, not both")),
        (None, None) => Err(Refusal::invalid(&["id"], "give `id` or `slug`")),
    }
}

/// A text to look for: at most 200 characters; an empty one is no condition.
pub(crate) fn filter_text(text: Option<String>) -> Result<Option<String>, Refusal> {
    query_text(&["filter", "query"], text)
}

/// The same in an argument of another name.
pub(crate) fn query_text(path: &[&str], text: Option<String>) -> Result<Option<String>, Refusal> {
    let text = text
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty());
    if let Some(text) = &text {
        input::text(path, text, input::NAME)?;
    }
    Ok(text)
}

/// A header that is sent with each call. Its value goes in and is never shown.
#[derive(InputObject)]
pub struct HeaderInput {
    /// Its name, 200 bytes at most; case does not matter, and none may come twice. Those that frame a request (`Host`,
    /// `Content-Length`, …) can't be set.
    name: String,
    /// Its value: visible ASCII, blanks and tabs, 8,192 bytes at most; null takes the header off.
    value: Option<String>,
}

/// Prices of a million tokens, in the tenant's currency: none below 0, up to 12 digits before the point and 6 after it. A price
/// that is left out stays; null takes it off.
#[derive(InputObject)]
pub struct ModelPricingInput {
    /// Of tokens sent.
    input_per_million: MaybeUndefined<Decimal>,
    /// Of tokens received.
    output_per_million: MaybeUndefined<Decimal>,
    /// Of tokens sent that the provider had cached; without it they cost as those sent.
    cached_input_per_million: MaybeUndefined<Decimal>,
}

impl ModelPricingInput {
    fn pricing(self) -> Pricing {
        let price =
            |value: MaybeUndefined<Decimal>| cleared(value).map(|price| price.map(|price| price.0));
        Pricing {
            input_per_million: price(self.input_per_million),
            output_per_million: price(self.output_per_million),
            cached_input_per_million: price(self.cached_input_per_million),
        }
    }
}

/// A model to make.
#[derive(InputObject)]
pub struct CreateModelInput {
    /// Short name, unique among the tenant's models: `[a-z0-9-]{1,63}`. A CONFLICT where another has it.
    slug: String,
    /// Name shown to people, 200 characters at most. Left out: `modelName`.
    name: Option<String>,
    /// What it does; only CHAT is served yet.
    kind: ModelKind,
    /// Who serves it, and so how it is spoken to. It can't be changed later.
    provider: ModelProvider,
    /// The provider's name for it, from 1 to 256 characters; of BUILTIN `extractive` alone.
    model_name: String,
    /// Where it is called: http or https, 2,000 characters at most, without a query (but see AZURE_OPENAI). OPENAI_COMPATIBLE,
    /// AZURE_OPENAI and OLLAMA need one; for the others, left out: the provider's own.
    base_url: Option<String>,
    /// The provider's key, 8,192 bytes at most. It is sealed, sent to this address alone, and never shown. Left out: none.
    api_key: Option<String>,
    /// Headers to send with each call, 32 at most.
    headers: Option<Vec<HeaderInput>>,
    /// Tokens that it takes in at once, its answer included; at least 1. Left out: what is known of `modelName`, else 32,768.
    context_window: Option<i32>,
    /// The most tokens of one answer, at least 1. Left out: as many as the provider gives.
    max_output_tokens: Option<i32>,
    /// Numbers in a vector, of an EMBEDDING model alone; at least 1.
    dimensions: Option<i32>,
    /// Whether agents may offer it tools. Left out: what is known of `modelName`, else true.
    supports_tools: Option<bool>,
    /// Whether it reads images. Left out: what is known of `modelName`, else false.
    supports_vision: Option<bool>,
    /// Whether it thinks before it answers. Left out: what is known of `modelName`, else false.
    supports_reasoning: Option<bool>,
    /// What it costs. Left out: nothing is known, and `cost` is null.
    pricing: Option<ModelPricingInput>,
    /// Calls that may be under way at once, at least 1; more wait their turn. Left out: no limit.
    max_concurrency: Option<i32>,
    /// Milliseconds that it has to begin an answer, and between two tokens of it, at least 1. Left out: 60,000.
    timeout_ms: Option<i32>,
    /// Ids of CHAT models to try after it, in this order; 10 at most. Left out: none.
    fallback_ids: Option<Vec<ID>>,
    /// Whether agents that name no model use this one, in place of the one that they used until now. Left out: false.
    is_default: Option<bool>,
    /// Who sees it. Left out: TENANT. GROUP needs `groupId`.
    visibility: Option<Visibility>,
    /// The id of the group that it lives in, of which the viewer is EDITOR or more. Left out: the viewer's own.
    group_id: Option<ID>,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

impl CreateModelInput {
    pub(super) fn read(self) -> Result<CreateModel, CommandError> {
        Ok(CreateModel {
            slug: Some(self.slug),
            name: self.name,
            kind: self.kind.into(),
            provider: self.provider.into(),
            model_name: self.model_name,
            base_url: self.base_url,
            api_key: self.api_key.map(Secret::new),
            headers: headers(self.headers.unwrap_or_default()),
            context_window: self.context_window,
            max_output_tokens: self.max_output_tokens,
            dimensions: self.dimensions,
            supports_tools: self.supports_tools,
            supports_vision: self.supports_vision,
            supports_reasoning: self.supports_reasoning,
            pricing: self
                .pricing
                .map(ModelPricingInput::pricing)
                .unwrap_or_default(),
            max_concurrency: self.max_concurrency,
            timeout_ms: self.timeout_ms,
            fallbacks: fallbacks(&self.fallback_ids.unwrap_or_default())?,
            is_default: self.is_default.unwrap_or_default(),
            visibility: self.visibility.map(Into::into),
            group: self.group_id.map(|id| id.named(GROUP)).transpose()?,
        })
    }
}

/// What changes of a model. What is left out stays; lists are replaced whole. Each field has the limits that it has in
/// `CreateModelInput`; null is refused where nothing else is said.
#[derive(InputObject)]
pub struct UpdateModelInput {
    /// The id of the model.
    pub(super) id: ID,
    /// Another short name. A CONFLICT where another model has it.
    slug: MaybeUndefined<String>,
    /// Another name, shown to people.
    name: MaybeUndefined<String>,
    /// Another model of the same provider's, by the provider's name for it.
    model_name: MaybeUndefined<String>,
    /// Another address; null: the provider's own. Another host or port clears the key and the headers, unless they are given
    /// again with it.
    base_url: MaybeUndefined<String>,
    /// Another key; null takes it off.
    api_key: MaybeUndefined<String>,
    /// Merged by name with those there are; a null value takes that one off, null all of them.
    headers: MaybeUndefined<Vec<HeaderInput>>,
    /// Tokens that it takes in at once; null: as where it was left out when the model was made.
    context_window: MaybeUndefined<i32>,
    /// The most tokens of one answer; null: as many as the provider gives.
    max_output_tokens: MaybeUndefined<i32>,
    /// Numbers in a vector, of an EMBEDDING model; null: not known.
    dimensions: MaybeUndefined<i32>,
    /// Whether agents may offer it tools.
    supports_tools: MaybeUndefined<bool>,
    /// Whether it reads images.
    supports_vision: MaybeUndefined<bool>,
    /// Whether it thinks before it answers.
    supports_reasoning: MaybeUndefined<bool>,
    /// What it costs; null takes all prices off.
    pricing: MaybeUndefined<ModelPricingInput>,
    /// Calls that may be under way at once; null: no limit.
    max_concurrency: MaybeUndefined<i32>,
    /// Milliseconds that it has to begin an answer, and between two tokens of it.
    timeout_ms: MaybeUndefined<i32>,
    /// Ids of CHAT models to try after it, in this order; the whole list, 10 at most.
    fallback_ids: MaybeUndefined<Vec<ID>>,
    /// Whether agents that name no model use this one; false leaves the tenant without a default if it was this one.
    is_default: MaybeUndefined<bool>,
    /// Who sees it, by whoever may share it; at once.
    visibility: MaybeUndefined<Visibility>,
    /// The id of the group that it lives in from now on, by whoever may share it; null: its owner's own. At once.
    group_id: MaybeUndefined<ID>,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

impl UpdateModelInput {
    pub(super) fn read(self) -> Result<UpdateModel, CommandError> {
        let mut nulls = Nulls::default();
        let group = cleared(self.group_id).map(|id| id.map(|id| id.named(GROUP)).transpose());
        let fallback_ids = nulls.never("fallbackIds", self.fallback_ids);
        let change = UpdateModel {
            slug: nulls.never("slug", self.slug),
            name: nulls.never("name", self.name),
            model_name: nulls.never("modelName", self.model_name),
            base_url: cleared(self.base_url),
            api_key: cleared(self.api_key).map(|key| key.map(Secret::new)),
            headers: cleared(self.headers).map(|given| given.map(headers)),
            context_window: cleared(self.context_window),
            max_output_tokens: cleared(self.max_output_tokens),
            dimensions: cleared(self.dimensions),
            supports_tools: nulls.never("supportsTools", self.supports_tools),
            supports_vision: nulls.never("supportsVision", self.supports_vision),
            supports_reasoning: nulls.never("supportsReasoning", self.supports_reasoning),
            pricing: cleared(self.pricing).map(|pricing| pricing.map(ModelPricingInput::pricing)),
            max_concurrency: cleared(self.max_concurrency),
            timeout_ms: nulls.never("timeoutMs", self.timeout_ms),
            fallbacks: fallback_ids.map(|ids| fallbacks(&ids)).transpose()?,
            is_default: nulls.never("isDefault", self.is_default),
            visibility: nulls.never("visibility", self.visibility).map(Into::into),
            group: group.transpose()?,
        };
        nulls.none()?;
        Ok(change)
    }
}

/// A model to delete.
#[derive(InputObject)]
pub struct DeleteModelInput {
    /// The id of the model.
    pub(super) id: ID,
    /// Delete it although agents, fallbacks or the tenant's default name it, and take it off there. It takes the right to change
    /// all of them. Without, they are told as InUse.
    #[graphql(default)]
    pub(super) force: bool,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// A model to check.
#[derive(InputObject)]
pub struct CheckModelInput {
    /// The id of the model.
    pub(super) id: ID,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// Which models to list; several conditions are all required, what is left out is none.
#[derive(Default, InputObject)]
pub struct ModelFilter {
    /// What it does: one of these.
    kind: Option<Vec<ModelKind>>,
    /// Who serves it: one of these.
    provider: Option<Vec<ModelProvider>>,
    /// A text that its name, its slug or `modelName` holds, whatever the case; 200 characters at most.
    query: Option<String>,
}

impl ModelFilter {
    pub(super) fn read(self) -> Result<loaders::models::ModelFilter, Refusal> {
        Ok(loaders::models::ModelFilter {
            kinds: self
                .kind
                .map(|kinds| kinds.into_iter().map(Into::into).collect()),
            providers: self
                .provider
                .map(|providers| providers.into_iter().map(Into::into).collect()),
            query: filter_text(self.query)?,
        })
    }
}

fn headers(given: Vec<HeaderInput>) -> Vec<Header> {
    given
        .into_iter()
        .map(|header| Header {
            name: header.name,
            value: header.value.map(Secret::new),
        })
        .collect()
}

fn fallbacks(ids: &[ID]) -> Result<Vec<ModelId>, CommandError> {
    ids.iter()
        .enumerate()
        .map(|(at, id)| id.named(&["input", "fallbackIds", &at.to_string()]))
        .collect()
}
