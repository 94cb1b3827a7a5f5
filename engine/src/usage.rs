//! What runs and calls used: booked with what it tells of, and rolled up by the hour a moment later, so that no command waits for
//! a row that every run of a tenant would raise.

use std::collections::BTreeMap;

use adapters::meter;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use entities::{
    AgentId, BookingKind, CommandError, ConversationId, DbErr, RunStatus, UserId, Within, booking,
    health, model_call, model_minute, run,
    usage::{Additions, Hour, Money, Used},
};
use events::Command;
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::{Engine, start::SYSTEM};

/// Bookings that one transaction rolls up.
const BATCH: u64 = 500;
/// For how long the minutes of models are kept; their health speaks of the last hour.
const MINUTES: TimeDelta = TimeDelta::hours(2);
/// In the place of a conversation, where a call belongs to none: it counts for its tenant alone.
const NO_CONVERSATION: ConversationId = ConversationId(Uuid::nil());
/// Bars of a histogram to each doubling: within 5 % of the truth.
const BARS: f64 = 8.0;

/// Which histogram a time belongs to.
const TO_END: i16 = 0;
const TO_FIRST_TOKEN: i16 = 1;

/// Writes down a call of a model, and books it.
///
/// # Errors
/// What the database says.
pub(crate) async fn call(
    c: &Command,
    run: &run::Model,
    call: model_call::Model,
) -> Result<(), CommandError> {
    let of = (run.conversation_id, run.agent_id, run.user_id);
    write_down(c, of, call).await
}

/// Writes down a call that was to show whether a model answers, and books it: for somebody, but of no run and no conversation.
///
/// # Errors
/// What the database says.
pub(crate) async fn check(
    c: &Command,
    user: UserId,
    call: model_call::Model,
) -> Result<(), CommandError> {
    write_down(c, (NO_CONVERSATION, None, user), call).await
}

async fn write_down(
    c: &Command,
    (conversation_id, agent_id, user_id): (ConversationId, Option<AgentId>, UserId),
    call: model_call::Model,
) -> Result<(), CommandError> {
    let booking = booking::Model {
        id: 0,
        tenant_id: call.tenant_id,
        kind: BookingKind::Call,
        conversation_id,
        agent_id,
        model_id: Some(call.model_id),
        user_id,
        failed: health::is_failure(&call.outcome),
        input_tokens: call.usage.input,
        output_tokens: call.usage.output,
        cost: call.usage.cost.clone(),
        latency_ms: call.latency_ms,
        time_to_first_token_ms: call.time_to_first_token_ms,
        at: call.finished_at,
    };
    let (input, output) = (call.usage.input, call.usage.output);
    model_call::Entity::add(&**c.tx(), call).await?;
    booking::Entity::record(&**c.tx(), vec![booking]).await?;
    c.count(move || meter::tokens(input, output));
    Ok(())
}

/// Books a run that ends.
///
/// # Errors
/// What the database says.
pub(crate) async fn ended(c: &Command, run: &run::Model) -> Result<(), DbErr> {
    let since_start = |at: Option<DateTime<Utc>>| {
        let took = at? - run.started_at?;
        i32::try_from(took.num_milliseconds().max(0)).ok()
    };
    let booking = booking::Model {
        id: 0,
        tenant_id: run.tenant_id,
        kind: BookingKind::Run,
        conversation_id: run.conversation_id,
        agent_id: run.agent_id,
        model_id: run.model_id,
        user_id: run.user_id,
        failed: run.status == RunStatus::Failed,
        input_tokens: 0,
        output_tokens: 0,
        cost: None,
        // How long an answer takes is told by those that came to their end.
        latency_ms: since_start(run.finished_at).filter(|_| run.status == RunStatus::Completed),
        time_to_first_token_ms: since_start(run.first_token_at),
        at: c.now(),
    };
    let status = run.status.name();
    c.count(move || meter::run_ended(status));
    booking::Entity::record(&**c.tx(), vec![booking]).await
}

/// The bar of a time.
fn bar(ms: i32) -> i16 {
    // Below 256 for any number of milliseconds.
    (f64::from(ms.max(1)).log2() * BARS) as i16
}

/// The time that a share of them did not pass, from the bars of a histogram, in milliseconds; `None` of nothing.
#[must_use]
pub fn quantile(bars: &BTreeMap<i16, i64>, share: f64) -> Option<i32> {
    let all: i64 = bars.values().sum();
    let rank = (all as f64 * share).ceil().max(1.0) as i64;
    let mut passed = 0;
    let (bar, _) = bars.iter().find(|(_, count)| {
        passed += **count;
        passed >= rank
    })?;
    Some(((f64::from(*bar) + 0.5) / BARS).exp2().round() as i32)
}

/// What bookings come to.
fn additions(bookings: &[booking::Model]) -> Additions {
    let mut additions = Additions::default();
    for booking in bookings {
        let hour = trunc(booking.at, TimeDelta::hours(1));
        let subjects = [
            Some(booking.tenant_id.0),
            booking.agent_id.map(|agent| agent.0),
            Some(booking.conversation_id)
                .filter(|id| *id != NO_CONVERSATION)
                .map(|id| id.0),
        ];
        for subject in subjects.into_iter().flatten() {
            add(&mut additions, booking, subject, hour);
        }
        match (booking.kind, booking.agent_id, booking.model_id) {
            (BookingKind::Run, Some(agent), _) => *additions.agents.entry(agent).or_default() += 1,
            (BookingKind::Call, _, Some(model)) => {
                let minute = trunc(booking.at, TimeDelta::minutes(1));
                let (_, calls, failed) =
                    additions
                        .minutes
                        .entry((model, minute))
                        .or_insert((booking.tenant_id, 0, 0));
                *calls += 1;
                *failed += i32::from(booking.failed);
            }
            _ => {}
        }
    }
    additions
}

fn add(additions: &mut Additions, booking: &booking::Model, subject: Uuid, hour: DateTime<Utc>) {
    let of = Hour {
        subject,
        hour,
        tenant: booking.tenant_id,
    };
    let used: &mut Used = additions.hours.entry(of).or_default();
    used.input_tokens += booking.input_tokens;
    used.output_tokens += booking.output_tokens;
    if let Some(cost) = booking
        .cost
        .as_deref()
        .and_then(|cost| cost.parse::<Decimal>().ok())
    {
        used.cost += Money::of(cost);
    }
    if booking.kind == BookingKind::Call {
        return;
    }
    used.runs += 1;
    used.failed_runs += i64::from(booking.failed);
    for (kind, took) in [
        (TO_END, booking.latency_ms),
        (TO_FIRST_TOKEN, booking.time_to_first_token_ms),
    ] {
        if let Some(took) = took {
            *additions
                .latencies
                .entry((of, kind, bar(took)))
                .or_default() += 1;
        }
    }
}

fn trunc(at: DateTime<Utc>, to: TimeDelta) -> DateTime<Utc> {
    at.duration_trunc(to).unwrap_or(at)
}

impl Engine {
    /// Rolls up what was booked, until the process closes.
    pub(crate) async fn roll_up_usage(self) {
        let mut written = self.log().written();
        written.mark_changed();
        while self.something_written(&mut written).await {
            if let Err(error) = self.roll_up().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to roll up usage; it is tried again"
                );
            }
        }
    }

    /// Rolls up all that is booked by now.
    ///
    /// # Errors
    /// What the database says; what was not rolled up stays booked.
    pub async fn roll_up(&self) -> Result<(), CommandError> {
        // Nobody needs a transaction to see that there is nothing.
        while booking::Entity::is_any(SYSTEM, self.log().db().reader(SYSTEM)).await? {
            let taken = self
                .log()
                .command::<_, CommandError, _>(Within::System(SYSTEM), |c| {
                    Box::pin(async move {
                        let bookings = booking::Entity::take(SYSTEM, c.tx(), BATCH).await?;
                        additions(&bookings).write(c.tx()).await?;
                        if !bookings.is_empty() {
                            let before = c.now() - MINUTES;
                            model_minute::Entity::forget(SYSTEM, c.tx(), before).await?;
                        }
                        Ok(bookings.len() as u64)
                    })
                })
                .await?;
            if taken < BATCH {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_five_percent() {
        for ms in [1, 2, 7, 100, 999, 12_345, 86_400_000] {
            let found = quantile(&BTreeMap::from([(bar(ms), 3)]), 0.5).unwrap();
            let off = (f64::from(found) / f64::from(ms) - 1.0).abs();
            assert!(off <= 0.05 || (found - ms).abs() <= 1, "{ms}: {found}");
        }
        let bars = BTreeMap::from([(bar(10), 50), (bar(1000), 45), (bar(60_000), 5)]);
        let at = |share| f64::from(quantile(&bars, share).unwrap());
        assert!((at(0.5) / 10.0 - 1.0).abs() < 0.05 && (at(0.95) / 1000.0 - 1.0).abs() < 0.05);
        assert!((at(0.96) / 60_000.0 - 1.0).abs() < 0.05);
        assert_eq!(quantile(&BTreeMap::new(), 0.5), None);
    }
}
