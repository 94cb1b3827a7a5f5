//! What runs used, summed.

use std::sync::Arc;

use async_graphql::{Context, Object, Result};
use chrono::{TimeDelta, Utc};
use entities::{Refusal, usage::Summed};
use loaders::usage::UsageOf;
use uuid::Uuid;

use crate::{
    asking::ContextExt,
    scalars::{DateTime, Decimal, Long},
};

/// How far back sums go where nothing else is said.
const LATELY: TimeDelta = TimeDelta::days(30);

/// Runs, tokens, cost and latency, summed from hourly sums: a call or a run counts within two seconds of its end, and in the hour
/// of its end.
pub struct UsageSummary {
    sums: Arc<Summed>,
    currency: String,
}

/// Runs, tokens, cost and latency, summed from hourly sums: a call or a run counts within two seconds of its end, and in the hour
/// of its end.
#[Object]
impl UsageSummary {
    /// Runs that ended.
    async fn runs(&self) -> Long {
        Long(self.sums.used.runs)
    }

    /// Of these, the ones that failed.
    async fn failed_runs(&self) -> Long {
        Long(self.sums.used.failed_runs)
    }

    /// Tokens sent to models, those included that the providers had cached.
    async fn input_tokens(&self) -> Long {
        Long(self.sums.used.input_tokens)
    }

    /// Tokens received from models, those of reasoning included.
    async fn output_tokens(&self) -> Long {
        Long(self.sums.used.output_tokens)
    }

    /// What they cost, exactly; calls of models without prices count nothing.
    async fn cost(&self) -> Decimal {
        Decimal(self.sums.used.cost.decimal())
    }

    /// The tenant's currency, as in ISO 4217.
    async fn currency(&self) -> &str {
        &self.currency
    }

    /// Half of the completed runs took no longer from their start to their end, in milliseconds, within 5 %; null without any.
    async fn p50_latency_ms(&self) -> Option<i32> {
        engine::usage::quantile(&self.sums.latencies[0], 0.5)
    }

    /// 95 of 100 took no longer, in milliseconds, within 5 %; null without any.
    async fn p95_latency_ms(&self) -> Option<i32> {
        engine::usage::quantile(&self.sums.latencies[0], 0.95)
    }

    /// Half of the runs that said something took no longer from their start to their first token, in milliseconds, within 5 %; null
    /// without any.
    async fn p50_time_to_first_token_ms(&self) -> Option<i32> {
        engine::usage::quantile(&self.sums.latencies[1], 0.5)
    }
}

/// The sums of a subject over a span of time: the last 30 days where nothing is said.
pub(crate) async fn between(
    ctx: &Context<'_>,
    subject: Uuid,
    since: Option<DateTime>,
    until: Option<DateTime>,
) -> Result<UsageSummary> {
    if let (Some(since), Some(until)) = (since, until)
        && since.0 > until.0
    {
        return Err(Refusal::invalid(&["since"], "since must not be after until").into());
    }
    // Not a moment later for each field of a request: they are one read.
    let lately = || {
        let until = until.map_or_else(|| ctx.clock().now(), |until| until.0);
        hour(until) - LATELY
    };
    let key = UsageOf {
        subject,
        since: Some(since.map_or_else(lately, |since| hour(since.0))),
        until: until.map(|until| until.0),
    };
    summary(ctx, key).await
}

/// The sums of a subject, from its beginning.
pub(crate) async fn ever(ctx: &Context<'_>, subject: Uuid) -> Result<UsageSummary> {
    let key = UsageOf {
        subject,
        since: None,
        until: None,
    };
    summary(ctx, key).await
}

async fn summary(ctx: &Context<'_>, key: UsageOf) -> Result<UsageSummary> {
    let sums = ctx.reader().load(key).await?.unwrap_or_default();
    let currency = ctx
        .identity()
        .map(|identity| identity.tenant().currency.clone());
    Ok(UsageSummary {
        sums,
        currency: currency.unwrap_or_default(),
    })
}

fn hour(at: chrono::DateTime<Utc>) -> chrono::DateTime<Utc> {
    chrono::DurationRound::duration_trunc(at, TimeDelta::hours(1)).unwrap_or(at)
}
