//! Where somebody whom a provider vouches for may join: by an invitation, or by a domain that a tenant trusts the provider for.
//! Nobody joins by an address that was not proved.

use chrono::{DateTime, Utc};
use entities::{CommandError, Role, TenantId, Tx, auto_join_domain, query::*, tenant};

use super::SCOPE;
use crate::{invitations, joining::Way};

/// Where an invitation leads, if it is good for whoever has proved `email`. Its row is locked.
pub(super) async fn by_invitation(
    tx: &Tx,
    digest: &[u8],
    email: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Option<Way>, CommandError> {
    let open = invitations::open(tx, digest, now).await?;
    let open = open.filter(|open| invitations::admits(&open.row, email));
    Ok(open.map(|open| Way::by(open.row)))
}

/// Where the domain of a proven address leads, if the provider is believed for it.
pub(super) async fn by_domain(
    tx: &Tx,
    email: &str,
    believed_for: &[String],
) -> Result<Option<Way>, CommandError> {
    let Some((_, domain)) = email.rsplit_once('@') else {
        return Ok(None);
    };
    if !believed_for.iter().any(|believed| believed == domain) {
        return Ok(None);
    }
    let row = auto_join_domain::Entity::anywhere(SCOPE)
        .filter(auto_join_domain::Column::Domain.eq(domain))
        .one(&**tx)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(is_active(tx, row.tenant_id).await?.then_some(Way {
        tenant: row.tenant_id,
        role: Role::Member,
        by: None,
    }))
}

async fn is_active(tx: &Tx, id: TenantId) -> Result<bool, CommandError> {
    let tenant = tenant::Entity::anywhere(SCOPE)
        .filter(tenant::Column::Id.eq(id))
        .filter(tenant::Column::IsActive.eq(true))
        .one(&**tx)
        .await?;
    Ok(tenant.is_some())
}
