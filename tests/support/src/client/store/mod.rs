//! What a front end keeps: the conversation that is open and the lists beside it, from queries and from what is told afterwards, by
//! the contract's rules alone.
//!
//! Pure data: whoever keeps one asks the server and hands the answers in. What a store shows has the shape of the answers of the
//! queries that it was made from, so that the two can be held against each other.

mod lists;
mod talk;
#[cfg(test)]
mod tests;

pub use lists::Lists;
pub use talk::Talk;

use serde_json::Value;

/// A string that is there.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The entries of a list.
fn entries(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A time as it sorts: written times have as many digits as they need.
fn time(value: &Value) -> i64 {
    let parsed = value.as_str().map(chrono::DateTime::parse_from_rfc3339);
    match parsed {
        Some(Ok(time)) => time.timestamp_micros(),
        _ => 0,
    }
}
