//! Who sees a thing, how far they may go with it, and sharing it.

mod mutations;
mod objects;

pub use mutations::{ShareMutation, SharePayload};
pub use objects::{Access, Share, Shareable, Visibility};
pub(crate) use objects::{lives_in, shares_of};
