//! The log over the database that `WEFT_TEST_DATABASE` names.

#![expect(clippy::unwrap_used, reason = "a test that can't go on ends")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests stand outside of what they drive: on the machine's clock, with tasks of their own"
)]

mod changes;
mod faults;
mod house;
mod rules;
