//! What was refused. Of somebody known it is an entry of its own, written before he is answered; of nobody known, who can ask as
//! often as he likes, it is counted by address and action, and each minute is one entry.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use adapters::clock::SharedClock;
use chrono::{DateTime, Utc};
use entities::{AuditOutcome, CommandError, Scope, Tx, Within, standing::Standing};
use events::{
    Asked,
    audit::{self, Entry, INSTALLATION},
};

use super::SCOPE;
use crate::Authority;

/// Addresses and actions that are counted apart within a minute; what comes after is counted together.
const APART: usize = 10_000;

/// What nobody known was refused in the minute under way.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<HashMap<Refused, u64>>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Refused {
    /// Minutes since 1970.
    minute: i64,
    address: Option<IpAddr>,
    action: String,
}

impl Refusals {
    fn count(&self, address: Option<IpAddr>, action: &str, now: DateTime<Utc>) {
        let minute = now.timestamp().div_euclid(60);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = Refused {
            minute,
            address,
            action: action.to_owned(),
        };
        let refused = if counts.len() < APART || counts.contains_key(&refused) {
            refused
        } else {
            Refused {
                address: None,
                ..refused
            }
        };
        *counts.entry(refused).or_default() += 1;
    }

    /// What was counted in minutes that are over by `now`; with `all` what was counted in this one, too.
    fn take(&self, now: DateTime<Utc>, all: bool) -> Vec<(Refused, u64)> {
        let minute = now.timestamp().div_euclid(60);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |refused: &Refused| all || refused.minute < minute;
        let taken: Vec<_> = counts
            .iter()
            .filter(|(refused, _)| over(refused))
            .map(|(refused, count)| (refused.clone(), *count))
            .collect();
        counts.retain(|refused, _| !over(refused));
        taken
    }

    /// Back again, as it could not be written down.
    fn put_back(&self, taken: Vec<(Refused, u64)>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (refused, count) in taken {
            *counts.entry(refused).or_default() += count;
        }
    }
}

/// Adds that a session began or went on, by `action`.
pub(crate) async fn signed_in(
    tx: &Tx,
    clock: &SharedClock,
    now: DateTime<Utc>,
    standing: &Standing,
    action: &str,
    address: Option<IpAddr>,
) -> Result<(), CommandError> {
    let tenant = standing.tenant.as_ref();
    let session = standing.session.as_ref();
    let entry = Entry {
        tenant: tenant.map_or(INSTALLATION, |tenant| tenant.id),
        actor: Some(standing.user.id),
        api_key: None,
        on_behalf_of: None,
        action: action.to_owned(),
        target: session.map(|session| session.id.to_string()),
        outcome: AuditOutcome::Allowed,
        address: shown(address),
        details: serde_json::json!({ "fields": [] }),
    };
    Ok(audit::write(tx, clock, now, entry).await?)
}

/// Adds that whoever asks did something to himself.
pub(crate) async fn acted(
    tx: &Tx,
    clock: &SharedClock,
    now: DateTime<Utc>,
    scope: &Scope,
    action: &str,
    address: Option<IpAddr>,
) -> Result<(), CommandError> {
    let asked = Asked::new(scope, action, Vec::new(), None, shown(address));
    if let Some(asked) = asked {
        let about = Some(scope.user().to_string());
        let entry = asked.entry(about, AuditOutcome::Allowed, &[]);
        audit::write(tx, clock, now, entry).await?;
    }
    Ok(())
}

/// The client's address, as the audit log shows it.
pub(crate) fn shown(address: Option<IpAddr>) -> Option<String> {
    address.map(|address| address.to_canonical().to_string())
}

impl Authority {
    /// Notes that `action` was refused, with the codes of why. `asked` says who asked; `None`: nobody that is known.
    ///
    /// # Errors
    /// What the database says.
    pub async fn refused(
        &self,
        asked: Option<Asked>,
        action: &str,
        address: Option<IpAddr>,
        codes: &[&str],
    ) -> Result<(), CommandError> {
        let Some(asked) = asked else {
            self.refused_nobody(action, address);
            return Ok(());
        };
        let entry = asked.entry(None, AuditOutcome::Refused, codes);
        self.0
            .log
            .command::<_, CommandError, _>(Within::System(SCOPE), move |c| {
                Box::pin(async move {
                    c.audit(entry);
                    Ok(())
                })
            })
            .await
    }

    /// Counts that nobody known was refused `action`.
    pub fn refused_nobody(&self, action: &str, address: Option<IpAddr>) {
        let now = self.0.clock.now();
        self.0.refusals.count(address, action, now);
    }

    /// Writes down what was counted in minutes that are over; with `all` of the one under way, too: at the end.
    pub(crate) async fn write_down_refusals(&self, all: bool) -> Result<(), CommandError> {
        let taken = self.0.refusals.take(self.0.clock.now(), all);
        if taken.is_empty() {
            return Ok(());
        }
        let entries: Vec<_> = taken.iter().map(entry).collect();
        let written = self
            .0
            .log
            .command::<_, CommandError, _>(Within::System(SCOPE), move |c| {
                Box::pin(async move {
                    entries.into_iter().for_each(|entry| c.audit(entry));
                    Ok(())
                })
            })
            .await;
        if written.is_err() {
            self.0.refusals.put_back(taken);
        }
        written
    }
}

fn entry((refused, count): &(Refused, u64)) -> Entry {
    Entry {
        tenant: INSTALLATION,
        actor: None,
        api_key: None,
        on_behalf_of: None,
        action: refused.action.clone(),
        target: None,
        outcome: AuditOutcome::Refused,
        address: shown(refused.address),
        details: serde_json::json!({ "count": count, "errors": ["UNAUTHENTICATED"] }),
    }
}
