//! Models: what agents speak through.

mod enums;
mod inputs;
mod mutations;
mod objects;
mod queries;

pub use enums::{ModelHealthStatus, ModelKind, ModelProvider};
pub use inputs::{
    CheckModelInput, CreateModelInput, DeleteModelInput, HeaderInput, ModelFilter,
    ModelPricingInput, UpdateModelInput,
};
pub use mutations::{ModelMutation, ModelPayload};
pub use objects::{Model, ModelHealth, ModelPricing};
pub use queries::ModelQuery;

pub(crate) use inputs::{Nulls, cleared, filter_text, one_of, query_text};
pub(crate) use objects::own_tenant;
