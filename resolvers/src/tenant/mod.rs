//! Tenants: who belongs to one, who is invited, and what it decided for itself.

mod invitation;
mod invitations;
mod object;
mod queries;
mod settings;
#[cfg(test)]
mod tests;

pub use invitation::{Invitation, InvitationPreview, InvitationStatus};
pub use invitations::{InvitationMutation, InvitationPayload};
pub use object::Tenant;
pub use queries::TenantQuery;
pub use settings::TenantSettings;
