//! The world outside: the clock and chance, groups of tasks, sealing, the guarded HTTP client, and what operators are shown.
//!
//! Everything here is told its configuration by whoever wires the program; nothing reads the environment, and nothing
//! knows a tenant's rules beyond the id that it binds a sealed value to.

pub mod clock;
pub mod meter;
pub mod outbound;
pub mod sealing;
pub mod spans;
pub mod tasks;
mod tls;

pub use tls::install_tls;
