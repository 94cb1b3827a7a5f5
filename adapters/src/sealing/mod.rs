//! Secrets at rest: sealed with AES-256-GCM and bound to the row they belong to; digests and keyed digests.
//!
//! A value sealed for one table, column, tenant and row opens nowhere else. Each tenant has a data key of its own, which
//! is stored wrapped by the installation's secret key; changing the secret key therefore means wrapping the data keys
//! again, not sealing every row again.

mod digests;
mod keyring;
mod secret;

pub use digests::{digest, equal, keyed_digest};
pub use keyring::{DataKey, Keyring, Place, SealError};
pub use secret::Secret;
