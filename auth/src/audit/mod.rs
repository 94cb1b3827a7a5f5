//! The audit log beside the commands, which write into it themselves: what was refused, the chain that shows whether anything of it
//! was changed, and what is let go of when its time is over.

mod chain;
mod expire;
mod refused;
#[cfg(test)]
mod tests;
mod verify;

pub(crate) use chain::place;
pub(crate) use refused::{Refusals, acted, shown, signed_in};
pub use verify::{Break, Checked, verify_audit};

use entities::SystemScope;

const SCOPE: SystemScope = SystemScope::of("the audit log");
