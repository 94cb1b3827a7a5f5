//! How much a credential may still ask for.

use async_graphql::SimpleObject;
use auth::Identity;

/// Cost that a credential may use, and how fast it comes back. What a request costs stands with `ServiceLimits.maxComplexity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SimpleObject)]
pub struct RateLimit {
    /// What may be used at once, after a rest.
    pub maximum: i32,
    /// What may be used now; what this request costs is taken already.
    pub available: i32,
    /// What comes back each second.
    pub restore_per_second: i32,
}

/// Looks into the buckets; in the data of the schema.
pub struct Allowances(pub Box<dyn Fn(&Identity) -> RateLimit + Send + Sync>);
