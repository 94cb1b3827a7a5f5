//! The guarded HTTP client: the one way to addresses that somebody else than the operator chose.
//!
//! The guard stands where a connection is opened, not only where an address is written: what was parsed is what is
//! connected to, every address a name resolves to is judged, and only judged addresses are tried. [`Outbound::check`]
//! says early what can be said of an address without asking the name service.

mod addresses;
mod body;
mod client;
mod dial;
#[cfg(test)]
mod tests;
mod text;

pub use body::{ReadError, read_limited};
pub use client::{AddressRefused, Outbound, OutboundConfig, OutboundError, Reach, RefusedBecause};
pub use text::clean_error_text;
