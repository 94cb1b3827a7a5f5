//! Failed sign-ins, counted by account and by address, and the growing delay that follows from them.
//!
//! An attempt is counted as a failure before the password is looked at, and taken back when it was right: attempts that run at
//! once can't slip past the limit together. The keys are keyed hashes, so that the table names nobody.

use std::{net::IpAddr, time::Duration};

use adapters::sealing::Keyring;
use chrono::{DateTime, TimeDelta, Utc};
use entities::{CommandError, SystemScope, Tx, query::*, sign_in_failure};

const SCOPE: SystemScope = SystemScope::of("failed sign-ins");

/// So many failures within [`WINDOW`] block.
const LIMIT: i32 = 10;
const WINDOW: TimeDelta = TimeDelta::minutes(1);
/// The first delay; each further failure doubles it.
const FIRST_DELAY: TimeDelta = TimeDelta::minutes(1);
/// The longest delay, and how long after one the count starts anew.
const LONGEST_DELAY: TimeDelta = TimeDelta::minutes(15);

/// What the attempts of an account are counted by, whether or not there is such an account.
pub(crate) fn account_key(keyring: &Keyring, email_key: &str) -> Vec<u8> {
    keyring
        .mac("sign-in account", email_key.as_bytes())
        .to_vec()
}

/// What the attempts of an address are counted by: IPv6 by /64, and an IPv4 address written as IPv6 as itself.
pub(crate) fn address_key(keyring: &Keyring, address: IpAddr) -> Vec<u8> {
    let bytes = match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets()[..8].to_vec(),
    };
    keyring.mac("sign-in address", &bytes).to_vec()
}

/// Counts an attempt under each key: of an account, where one was named, and of an address. The account's block does not hold
/// where `account_is_exempt`.
///
/// # Errors
/// [`CommandError::RateLimited`] while blocked; then the attempt is not counted.
pub(crate) async fn count(
    tx: &Tx,
    account: Option<&[u8]>,
    address: Option<&[u8]>,
    account_is_exempt: bool,
    now: DateTime<Utc>,
) -> Result<(), CommandError> {
    let keys: Vec<_> = account
        .into_iter()
        .chain(address)
        .map(<[u8]>::to_vec)
        .collect();
    let rows = sign_in_failure::Entity::locked(SCOPE, &**tx, &keys, now).await?;
    let holds =
        |row: &&sign_in_failure::Model| !(account_is_exempt && Some(row.key.as_slice()) == account);
    if let Some(until) = rows
        .iter()
        .filter(holds)
        .filter_map(|row| row.blocked_until)
        .filter(|&until| until > now)
        .max()
    {
        return Err(CommandError::RateLimited {
            retry_after: (until - now).to_std().unwrap_or(Duration::ZERO),
        });
    }
    for row in rows {
        store(tx, one_more(row, now)).await?;
    }
    Ok(())
}

/// Takes back what [`count`] counted for an attempt that was right: all of the account's, one of the address's.
pub(crate) async fn forgive(
    tx: &Tx,
    account: &[u8],
    address: Option<&[u8]>,
    now: DateTime<Utc>,
) -> Result<(), CommandError> {
    let keys: Vec<_> = std::iter::once(account)
        .chain(address)
        .map(<[u8]>::to_vec)
        .collect();
    for row in sign_in_failure::Entity::locked(SCOPE, &**tx, &keys, now).await? {
        let failures = if row.key == account {
            0
        } else {
            (row.failures - 1).max(0)
        };
        let blocked_until = row.blocked_until.filter(|_| failures >= LIMIT);
        store(
            tx,
            sign_in_failure::Model {
                failures,
                blocked_until,
                ..row
            },
        )
        .await?;
    }
    Ok(())
}

/// Takes back what [`count`] counted of an address for an attempt that was right.
pub(crate) async fn take_back(
    tx: &Tx,
    address: &[u8],
    now: DateTime<Utc>,
) -> Result<(), CommandError> {
    for row in sign_in_failure::Entity::locked(SCOPE, &**tx, &[address.to_vec()], now).await? {
        let failures = (row.failures - 1).max(0);
        let blocked_until = row.blocked_until.filter(|_| failures >= LIMIT);
        let row = sign_in_failure::Model {
            failures,
            blocked_until,
            ..row
        };
        store(tx, row).await?;
    }
    Ok(())
}

/// Deletes what no longer counts.
pub(crate) async fn sweep(tx: &Tx, now: DateTime<Utc>) -> Result<(), CommandError> {
    let old = now - WINDOW - LONGEST_DELAY - LONGEST_DELAY;
    let over = Condition::any()
        .add(sign_in_failure::Column::BlockedUntil.is_null())
        .add(sign_in_failure::Column::BlockedUntil.lt(old));
    sign_in_failure::Entity::delete_anywhere(SCOPE)
        .filter(sign_in_failure::Column::FirstAt.lt(old))
        .filter(over)
        .exec(&**tx)
        .await?;
    Ok(())
}

async fn store(tx: &Tx, row: sign_in_failure::Model) -> Result<(), CommandError> {
    sign_in_failure::Entity::change_anywhere(SCOPE)
        .col_expr(sign_in_failure::Column::Failures, Expr::value(row.failures))
        .col_expr(sign_in_failure::Column::FirstAt, Expr::value(row.first_at))
        .col_expr(
            sign_in_failure::Column::BlockedUntil,
            Expr::value(row.blocked_until),
        )
        .filter(sign_in_failure::Column::Key.eq(row.key))
        .exec(&**tx)
        .await?;
    Ok(())
}

fn one_more(row: sign_in_failure::Model, now: DateTime<Utc>) -> sign_in_failure::Model {
    let over = match row.blocked_until {
        Some(until) => now - until > LONGEST_DELAY,
        None => now - row.first_at > WINDOW,
    };
    if over || row.failures <= 0 {
        return sign_in_failure::Model {
            failures: 1,
            first_at: now,
            blocked_until: None,
            ..row
        };
    }
    let failures = row.failures.saturating_add(1);
    let doublings = failures - LIMIT;
    let blocked_until =
        (doublings >= 0).then(|| now + (FIRST_DELAY * (1 << doublings.min(8))).min(LONGEST_DELAY));
    sign_in_failure::Model {
        failures,
        blocked_until,
        ..row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn delays_grow_and_end() {
        let mut row = sign_in_failure::Model {
            key: vec![],
            failures: 0,
            first_at: at(0),
            blocked_until: None,
        };
        for second in 0..9 {
            row = one_more(row, at(second));
            assert_eq!(row.blocked_until, None);
        }
        let mut delays = Vec::new();
        let mut now = at(9);
        for _ in 0..7 {
            row = one_more(row, now);
            let until = row.blocked_until.unwrap();
            delays.push((until - now).num_seconds());
            now = until;
        }
        assert_eq!(delays, [60, 120, 240, 480, 900, 900, 900]);
        row.failures = i32::MAX;
        assert_eq!(
            one_more(row.clone(), now).blocked_until,
            Some(now + LONGEST_DELAY)
        );
        let later = one_more(row, now + LONGEST_DELAY + TimeDelta::seconds(1));
        assert_eq!((later.failures, later.blocked_until), (1, None));
    }

    #[test]
    fn slow_failures_do_not_add_up() {
        let mut row = sign_in_failure::Model {
            key: vec![],
            failures: 0,
            first_at: at(0),
            blocked_until: None,
        };
        for minute in 0..100 {
            row = one_more(row, at(minute * 20));
            assert_eq!(row.blocked_until, None);
        }
    }

    #[test]
    fn addresses_count_by_network() {
        let ring = Keyring::new([1; 32], None);
        let key = |text: &str| address_key(&ring, text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_ne!(
            account_key(&ring, "a"),
            account_key(&Keyring::new([2; 32], None), "a")
        );
    }
}
