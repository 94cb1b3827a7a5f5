//! Tenants: who belongs to one, who is invited, and what it decided for itself.

mod invitation;
mod object;
mod queries;
mod settings;

pub use invitation::{Invitation, InvitationPreview, InvitationStatus};
pub use object::Tenant;
pub use queries::TenantQuery;
pub use settings::TenantSettings;
