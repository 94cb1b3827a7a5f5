//! What was used: bookings taken off their queue, the sums that they are rolled up into, and the reading of these.

use std::{
    collections::{BTreeMap, HashMap},
    ops::AddAssign,
};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect, Value,
    sea_query::{Expr, ExprTrait, LockBehavior, LockType},
};
use uuid::Uuid;

use crate::{
    AgentId, Backend, ModelId, Scope, SystemScope, TenantId, Tx, booking, model_minute,
    runs::statement, usage_hour, usage_latency,
};

/// 10⁻¹² of a unit of money: prices are per million tokens with up to six decimals.
const PICO: i128 = 1_000_000_000_000;
/// The most that one booking costs, in whole units: no hour has so many that their sum is too large for its column.
const MOST: u64 = 1_000_000_000_000;
/// Values that one statement takes at most; SQLite allows 32,766.
const VALUES: usize = 10_000;

/// A sum of money, exact to 10⁻¹² of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Money(i128);

impl Money {
    /// Of a decimal as it is booked; what is below 10⁻¹² is rounded, and what is above 10¹² cut.
    #[must_use]
    pub fn of(cost: Decimal) -> Self {
        let most = Decimal::from(MOST);
        let cost = cost.clamp(-most, most);
        let picos = (cost * Decimal::from_i128_with_scale(PICO, 0)).round();
        Self(picos.mantissa() / 10i128.pow(picos.scale()))
    }

    /// As a decimal, without zeros at its end.
    #[must_use]
    pub fn decimal(self) -> Decimal {
        Decimal::try_from_i128_with_scale(self.0, 12)
            .unwrap_or(Decimal::MAX)
            .normalize()
    }

    fn columns(self) -> (i64, i64) {
        let whole = i64::try_from(self.0.div_euclid(PICO)).unwrap_or(i64::MAX);
        // Below 10¹².
        (whole, self.0.rem_euclid(PICO) as i64)
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, more: Self) {
        self.0 = self.0.saturating_add(more.0);
    }
}

/// Whose, and in which hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour {
    /// The UUID of a tenant, an agent or a conversation.
    pub subject: Uuid,
    /// When it began.
    pub hour: DateTime<Utc>,
    /// The tenant.
    pub tenant: TenantId,
}

/// What was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Runs that ended.
    pub runs: i64,
    /// Of these, the ones that failed.
    pub failed_runs: i64,
    /// Tokens sent.
    pub input_tokens: i64,
    /// Tokens received.
    pub output_tokens: i64,
    /// What they cost.
    pub cost: Money,
}

/// What a batch of bookings adds, ordered, so that two processes that add at once never wait for each other in a circle.
#[derive(Debug, Clone, Default)]
pub struct Additions {
    /// To the hours.
    pub hours: BTreeMap<Hour, Used>,
    /// To the histograms: of an hour, of which kind, in which bar.
    pub latencies: BTreeMap<(Hour, i16, i16), i64>,
    /// Calls, and failed ones, to the minutes of models.
    pub minutes: BTreeMap<(ModelId, DateTime<Utc>), (TenantId, i32, i32)>,
    /// Runs to agents.
    pub agents: BTreeMap<AgentId, i64>,
}

impl booking::Entity {
    /// Whether something is booked and not rolled up.
    ///
    /// # Errors
    /// What the database says.
    pub async fn is_any(_: SystemScope, db: &impl ConnectionTrait) -> Result<bool, DbErr> {
        Ok(Self::find().limit(1).one(db).await?.is_some())
    }

    /// Takes the oldest bookings off the queue: those that nobody else is taking. They are gone when the transaction is.
    ///
    /// # Errors
    /// What the database says.
    pub async fn take(_: SystemScope, tx: &Tx, limit: u64) -> Result<Vec<booking::Model>, DbErr> {
        let mut select = Self::find().order_by_asc(booking::Column::Id).limit(limit);
        if tx.backend() == Backend::Postgres {
            select = select.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
        }
        let rows = select.all(&**tx).await?;
        if !rows.is_empty() {
            Self::delete_many()
                .filter(booking::Column::Id.is_in(rows.iter().map(|row| row.id)))
                .exec(&**tx)
                .await?;
        }
        Ok(rows)
    }
}

impl Additions {
    /// Adds it all to what is there. A few statements, whatever the number of bookings.
    ///
    /// # Errors
    /// What the database says.
    pub async fn write(&self, tx: &Tx) -> Result<(), DbErr> {
        let hours = self.hours.iter().map(|(of, used)| {
            let (units, picos) = used.cost.columns();
            vec![
                of.tenant.into(),
                of.subject.into(),
                of.hour.into(),
                used.runs.into(),
                used.failed_runs.into(),
                used.input_tokens.into(),
                used.output_tokens.into(),
                units.into(),
                picos.into(),
            ]
        });
        let head = "insert into usage_hours (tenant_id, subject_id, hour, runs, failed_runs, input_tokens, output_tokens, cost_units, cost_picos) values";
        let tail = format!(
            "on conflict (subject_id, hour) do update set runs = usage_hours.runs + excluded.runs,
             failed_runs = usage_hours.failed_runs + excluded.failed_runs,
             input_tokens = usage_hours.input_tokens + excluded.input_tokens,
             output_tokens = usage_hours.output_tokens + excluded.output_tokens,
             cost_units = usage_hours.cost_units + excluded.cost_units + (usage_hours.cost_picos + excluded.cost_picos) / {PICO},
             cost_picos = (usage_hours.cost_picos + excluded.cost_picos) % {PICO}"
        );
        upsert(tx, head, hours, &tail).await?;
        let latencies = self.latencies.iter().map(|((of, kind, bucket), count)| {
            vec![
                of.tenant.into(),
                of.subject.into(),
                of.hour.into(),
                (*kind).into(),
                (*bucket).into(),
                (*count).into(),
            ]
        });
        let head =
            "insert into usage_latencies (tenant_id, subject_id, hour, kind, bucket, count) values";
        let tail = "on conflict (subject_id, hour, kind, bucket) do update set count = usage_latencies.count + excluded.count";
        upsert(tx, head, latencies, tail).await?;
        let minutes = self
            .minutes
            .iter()
            .map(|((model, minute), (tenant, calls, failed))| {
                vec![
                    (*tenant).into(),
                    (*model).into(),
                    (*minute).into(),
                    (*calls).into(),
                    (*failed).into(),
                ]
            });
        let head = "insert into model_minutes (tenant_id, model_id, minute, calls, failed) values";
        let tail = "on conflict (model_id, minute) do update set calls = model_minutes.calls + excluded.calls, failed = model_minutes.failed + excluded.failed";
        upsert(tx, head, minutes, tail).await?;
        // In one order for all processes: the statements below take them in others.
        if tx.backend() == Backend::Postgres && !self.agents.is_empty() {
            let values: Vec<Value> = self.agents.keys().map(|&agent| agent.into()).collect();
            let places: Vec<_> = (1..=values.len()).map(|n| format!("${n}")).collect();
            let sql = format!(
                "select id from agents where id in ({}) order by id for no key update",
                places.join(", ")
            );
            tx.query_all_raw(statement(&**tx, &sql, values)).await?;
        }
        // By how much is the same for most of them: one statement for each number.
        let mut by: BTreeMap<i64, Vec<AgentId>> = BTreeMap::new();
        for (agent, runs) in &self.agents {
            by.entry(*runs).or_default().push(*agent);
        }
        for (runs, agents) in by {
            let mut values: Vec<Value> = vec![runs.into()];
            let places: Vec<_> = (2..agents.len() + 2).map(|n| format!("${n}")).collect();
            values.extend(agents.into_iter().map(Value::from));
            let sql = format!(
                "update agents set uses = uses + $1 where id in ({})",
                places.join(", ")
            );
            tx.execute_raw(statement(&**tx, &sql, values)).await?;
        }
        Ok(())
    }
}

async fn upsert(
    tx: &Tx,
    head: &str,
    rows: impl Iterator<Item = Vec<Value>>,
    tail: &str,
) -> Result<(), DbErr> {
    let rows: Vec<_> = rows.collect();
    let Some(width) = rows.first().map(Vec::len) else {
        return Ok(());
    };
    for rows in rows.chunks(VALUES / width) {
        let mut next = 0;
        let mut places = Vec::with_capacity(rows.len());
        for row in rows {
            let own: Vec<_> = (next + 1..=next + row.len())
                .map(|n| format!("${n}"))
                .collect();
            next += row.len();
            places.push(format!("({})", own.join(", ")));
        }
        let sql = format!("{head} {} {tail}", places.join(", "));
        let values = rows.iter().flatten().cloned().collect();
        tx.execute_raw(statement(&**tx, &sql, values)).await?;
    }
    Ok(())
}

impl model_minute::Entity {
    /// Takes away the minutes before `before`.
    ///
    /// # Errors
    /// What the database says.
    pub async fn forget(_: SystemScope, tx: &Tx, before: DateTime<Utc>) -> Result<(), DbErr> {
        Self::delete_many()
            .filter(model_minute::Column::Minute.lt(before))
            .exec(&**tx)
            .await
            .map(|_| ())
    }
}

/// The sums of one subject, and how many of its runs took how long: by kind (0 to the end, 1 to the first token) and bar.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summed {
    /// Runs, tokens, money.
    pub used: Used,
    /// Bars in their order.
    pub latencies: [BTreeMap<i16, i64>; 2],
}

#[derive(FromQueryResult)]
struct Sums {
    subject_id: Uuid,
    runs: i64,
    failed_runs: i64,
    input_tokens: i64,
    output_tokens: i64,
    cost_units: i64,
    cost_picos: i64,
}

#[derive(FromQueryResult)]
struct Bar {
    subject_id: Uuid,
    kind: i16,
    bucket: i16,
    count: i64,
}

/// What each of these used in the hours that begin within `since` and `until`. Two statements, whatever their number.
///
/// # Errors
/// What the database says.
pub async fn summed(
    scope: &Scope,
    db: &impl ConnectionTrait,
    subjects: &[Uuid],
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
) -> Result<HashMap<Uuid, Summed>, DbErr> {
    use usage_hour::Column as Of;
    use usage_latency::Column as Took;
    // PostgreSQL sums whole numbers into decimals.
    let sum = |column: Of| Expr::col(column).sum().cast_as("bigint");
    let mut hours = usage_hour::Entity::in_tenant(scope)
        .select_only()
        .column(Of::SubjectId)
        .filter(Of::SubjectId.is_in(subjects.iter().copied()))
        .group_by(Of::SubjectId);
    for column in [
        Of::Runs,
        Of::FailedRuns,
        Of::InputTokens,
        Of::OutputTokens,
        Of::CostUnits,
        Of::CostPicos,
    ] {
        hours = hours.column_as(sum(column), sea_orm::IdenStatic::as_str(&column));
    }
    let mut bars = usage_latency::Entity::in_tenant(scope)
        .select_only()
        .columns([Took::SubjectId, Took::Kind, Took::Bucket])
        .column_as(Expr::col(Took::Count).sum().cast_as("bigint"), "count")
        .filter(Took::SubjectId.is_in(subjects.iter().copied()))
        .group_by(Took::SubjectId)
        .group_by(Took::Kind)
        .group_by(Took::Bucket);
    if let Some(since) = since {
        hours = hours.filter(Of::Hour.gte(since));
        bars = bars.filter(Took::Hour.gte(since));
    }
    if let Some(until) = until {
        hours = hours.filter(Of::Hour.lt(until));
        bars = bars.filter(Took::Hour.lt(until));
    }
    let mut all: HashMap<Uuid, Summed> = HashMap::new();
    for sums in hours.into_model::<Sums>().all(db).await? {
        all.entry(sums.subject_id).or_default().used = Used {
            runs: sums.runs,
            failed_runs: sums.failed_runs,
            input_tokens: sums.input_tokens,
            output_tokens: sums.output_tokens,
            cost: Money(i128::from(sums.cost_units) * PICO + i128::from(sums.cost_picos)),
        };
    }
    for bar in bars.into_model::<Bar>().all(db).await? {
        let of = all.entry(bar.subject_id).or_default();
        if let Some(bars) = usize::try_from(bar.kind)
            .ok()
            .and_then(|kind| of.latencies.get_mut(kind))
        {
            bars.insert(bar.bucket, bar.count);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact() {
        let mut sum = Money::default();
        for _ in 0..3 {
            sum += Money::of("0.000000037500".parse().unwrap());
        }
        sum += Money::of("12.999999999999".parse().unwrap());
        assert_eq!(sum.decimal().to_string(), "13.000000112499");
        assert_eq!(sum.columns(), (13, 112_499));
        assert_eq!(Money::default().decimal().to_string(), "0");
        assert_eq!(Money::of(Decimal::MAX).columns(), (1_000_000_000_000, 0));
    }
}
