//! The secret key changes: all that the one before it sealed or wrapped is sealed or wrapped by the new one.
//!
//! Row by row, each of which opens before and after: what is not done when the process dies is done by the next one. What
//! tenants' data keys seal stays as it is, and what is handed out follows from the installation's key, which is sealed itself.

use std::collections::BTreeMap;

use adapters::{
    clock::SharedClock,
    sealing::{Keyring, Place, SealError},
};
use chrono::{DateTime, Utc};
use entities::{
    CommandError, Db, DbErr, SystemScope, TenantId, Tx, Within, audit_chain, installation_key,
    oidc_flow, query::*, session, sign_in_code, signing_key, tenant,
};
use uuid::Uuid;

use crate::{audit, installation_key as ours, oidc, operator, signing};

const SCOPE: SystemScope = SystemScope::of("changing the secret key");

/// Rows that are read at once, and changed in one transaction.
const AT_ONCE: u64 = 200;
/// How often all is gone through: what a server moves meanwhile is met the second time.
const ROUNDS: usize = 10;

/// Why not all is sealed by the new key.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// Neither key opens something.
    #[error("neither the secret key nor the one before it opens {table} row {row}{}{}", others(*.more), unchanged(*.is_unchanged))]
    Neither {
        /// The table's name.
        table: &'static str,
        /// What its primary key is.
        row: String,
        /// How many more there are.
        more: u64,
        /// Whether nothing at all was changed.
        is_unchanged: bool,
    },
    /// A process seals by the earlier key.
    #[error(
        "something seals by the earlier key all the time: a process runs that was not given the new one as `secret_key`"
    )]
    Sealing,
    /// The database can't be used.
    #[error("failed to use the database: {0}; what was done stays, run it again")]
    Failed(#[from] CommandError),
}

impl From<DbErr> for RotationError {
    fn from(error: DbErr) -> Self {
        Self::Failed(error.into())
    }
}

fn others(more: u64) -> String {
    match more {
        0 => String::new(),
        more => format!(", nor {more} more"),
    }
}

fn unchanged(is_unchanged: bool) -> &'static str {
    match is_unchanged {
        true => "; nothing was changed",
        false => "",
    }
}

/// What was done of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// What they are.
    pub what: &'static str,
    /// How many were sealed anew.
    pub anew: u64,
    /// How many there are.
    pub of: u64,
}

/// What the secret key seals or wraps itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    DataKeys,
    SigningKeys,
    Chains,
    Flows,
    Codes,
    Sessions,
    Installation,
}

impl Kind {
    /// Codes before the sessions that they become; at the end what stands for all of it.
    const ALL: [Self; 7] = [
        Self::DataKeys,
        Self::SigningKeys,
        Self::Chains,
        Self::Flows,
        Self::Codes,
        Self::Sessions,
        Self::Installation,
    ];

    fn what(self) -> &'static str {
        match self {
            Self::DataKeys => "data keys of tenants",
            Self::SigningKeys => "keys of access tokens",
            Self::Chains => "keys of audit chains",
            Self::Flows => "sign-ins at providers under way",
            Self::Codes => "codes of sign-ins at providers",
            Self::Sessions => "sessions with a provider's token",
            Self::Installation => "the installation's key",
        }
    }

    fn table(self) -> &'static str {
        self.column().0
    }

    /// Where it stands.
    fn column(self) -> (&'static str, &'static str) {
        match self {
            Self::DataKeys => ("tenants", "data_key"),
            Self::SigningKeys => ("signing_keys", "sealed"),
            Self::Chains => ("audit_chains", "sealed_key"),
            Self::Flows => ("oidc_flows", "sealed"),
            Self::Codes => ("sign_in_codes", "sealed_id_token"),
            Self::Sessions => ("sessions", "sealed_id_token"),
            Self::Installation => ("installation_keys", "sealed"),
        }
    }

    /// The next rows after `after`, in the order of their primary key; but for those that are good for nothing any more.
    async fn page(
        self,
        db: &Db,
        after: Option<&Sealed>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Sealed>, DbErr> {
        macro_rules! page {
            ($table:ident by $id:ident as $to:expr, where $narrow:expr) => {{
                let mut rows = $table::Entity::anywhere(SCOPE).filter($narrow);
                if let Some(after) = after {
                    rows = rows.filter($table::Column::$id.gt($to(after)));
                }
                rows.order_by_asc($table::Column::$id)
                    .limit(AT_ONCE)
                    .all(db.reader(SCOPE))
                    .await?
                    .into_iter()
            }};
        }
        let all = Condition::all;
        Ok(match self {
            Self::DataKeys => page!(tenant by Id as Sealed::uuid, where all())
                .map(|row| Sealed::new(row.id.0, By::DataKey(row.id), row.data_key))
                .collect(),
            Self::SigningKeys => page!(signing_key by Id as Sealed::uuid, where all())
                .map(|row| Sealed::new(row.id, By::System(signing::place(row.id)), row.sealed))
                .collect(),
            Self::Chains => page!(audit_chain by TenantId as Sealed::uuid, where all())
                .map(|row| {
                    let place = audit::place(row.tenant_id);
                    Sealed::new(row.tenant_id.0, By::System(place), row.sealed_key)
                })
                .collect(),
            Self::Flows => page!(oidc_flow by StateDigest as Sealed::bytes, where oidc_flow::Column::ExpiresAt.gt(now))
                .map(|row| {
                    let place = oidc::flow_place(&row.state_digest);
                    Sealed::new(row.state_digest, By::System(place), row.sealed)
                })
                .collect(),
            Self::Codes => {
                let holds = Condition::all()
                    .add(sign_in_code::Column::SealedIdToken.is_not_null())
                    .add(sign_in_code::Column::IdentityId.is_not_null())
                    .add(sign_in_code::Column::ExpiresAt.gt(now));
                page!(sign_in_code by Digest as Sealed::bytes, where holds)
                    .filter_map(|row| {
                        let place = oidc::token_place(row.identity_id?);
                        Some(Sealed::new(row.digest, By::System(place), row.sealed_id_token?))
                    })
                    .collect()
            }
            Self::Sessions => {
                let holds = Condition::all()
                    .add(session::Column::SealedIdToken.is_not_null())
                    .add(session::Column::IdentityId.is_not_null())
                    .add(session::Column::EndedAt.is_null())
                    .add(session::Column::EndsAt.gt(now));
                page!(session by Id as Sealed::uuid, where holds)
                    .filter_map(|row| {
                        let place = oidc::token_place(row.identity_id?);
                        Some(Sealed::new(row.id.0, By::System(place), row.sealed_id_token?))
                    })
                    .collect()
            }
            Self::Installation => page!(installation_key by One as |_: &Sealed| 1, where all())
                .map(|row| Sealed::new([], By::System(ours::PLACE), row.sealed))
                .collect(),
        })
    }

    /// Puts `anew` in the place of what `row` held, unless it holds something else by now. Whether it did.
    async fn replace(self, tx: &Tx, row: &Sealed, anew: Vec<u8>) -> Result<bool, DbErr> {
        macro_rules! replace {
            ($table:ident.$sealed:ident where $is_it:expr) => {
                $table::Entity::change_anywhere(SCOPE)
                    .col_expr($table::Column::$sealed, Expr::value(anew))
                    .filter($is_it)
                    .filter($table::Column::$sealed.eq(row.sealed.clone()))
                    .exec(&**tx)
                    .await?
            };
        }
        let (uuid, bytes) = (Sealed::uuid(row), || row.id.clone());
        let changed = match self {
            Self::DataKeys => replace!(tenant.DataKey where tenant::Column::Id.eq(uuid)),
            Self::SigningKeys => {
                replace!(signing_key.Sealed where signing_key::Column::Id.eq(uuid))
            }
            Self::Chains => {
                replace!(audit_chain.SealedKey where audit_chain::Column::TenantId.eq(uuid))
            }
            Self::Flows => {
                replace!(oidc_flow.Sealed where oidc_flow::Column::StateDigest.eq(bytes()))
            }
            Self::Codes => {
                replace!(sign_in_code.SealedIdToken where sign_in_code::Column::Digest.eq(bytes()))
            }
            Self::Sessions => replace!(session.SealedIdToken where session::Column::Id.eq(uuid)),
            Self::Installation => {
                replace!(installation_key.Sealed where installation_key::Column::One.eq(1))
            }
        };
        Ok(changed.rows_affected == 1)
    }
}

/// Something sealed, and where it stands.
#[derive(Debug)]
struct Sealed {
    /// The primary key; of the only row nothing.
    id: Vec<u8>,
    by: By,
    sealed: Vec<u8>,
}

#[derive(Debug)]
enum By {
    DataKey(TenantId),
    System(Place<'static>),
}

impl Sealed {
    fn new(id: impl Into<Id>, by: By, sealed: Vec<u8>) -> Self {
        let Id(id) = id.into();
        Self { id, by, sealed }
    }

    fn uuid(&self) -> Uuid {
        Uuid::from_slice(&self.id).unwrap_or_default()
    }

    fn bytes(&self) -> Vec<u8> {
        self.id.clone()
    }

    /// As it is found in the table.
    fn row(&self) -> String {
        match Uuid::from_slice(&self.id) {
            Ok(id) => id.to_string(),
            Err(_) if self.id.is_empty() => "1".to_owned(),
            Err(_) => self.id.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// The same by the new key; `None` where it is by it already.
    fn anew(&self, keyring: &Keyring) -> Result<Option<Vec<u8>>, SealError> {
        match &self.by {
            By::DataKey(tenant) => keyring.rewrap_data_key(tenant.0, &self.sealed),
            By::System(place) => keyring.reseal_system(place, &self.sealed),
        }
    }
}

/// A primary key as bytes.
struct Id(Vec<u8>);

impl From<Uuid> for Id {
    fn from(id: Uuid) -> Self {
        Self(id.as_bytes().to_vec())
    }
}

impl From<Vec<u8>> for Id {
    fn from(id: Vec<u8>) -> Self {
        Self(id)
    }
}

impl From<[u8; 0]> for Id {
    fn from(_: [u8; 0]) -> Self {
        Self(Vec::new())
    }
}

/// Whether `keyring` opens all that a secret key has sealed; changes nothing.
///
/// # Errors
/// It does not, or the database can't be read.
pub async fn opens_all(
    db: &Db,
    clock: &SharedClock,
    keyring: &Keyring,
) -> Result<(), RotationError> {
    let now = clock.now();
    let mut first: Option<(&'static str, String)> = None;
    let mut more = 0;
    for kind in Kind::ALL {
        let mut rows = kind.page(db, None, now).await?;
        while let Some(last) = rows.last() {
            for row in rows.iter().filter(|row| row.anew(keyring).is_err()) {
                match first {
                    None => first = Some((kind.table(), row.row())),
                    Some(_) => more += 1,
                }
            }
            rows = kind.page(db, Some(last), now).await?;
        }
    }
    match first {
        None => Ok(()),
        Some((table, row)) => Err(RotationError::Neither {
            table,
            row,
            more,
            is_unchanged: true,
        }),
    }
}

/// Seals by the secret key of `keyring` all that the previous one sealed, and tells of each kind how many there were. Nothing is
/// changed where neither opens something.
///
/// # Errors
/// See [`RotationError`].
pub async fn rotate(
    db: &Db,
    clock: &SharedClock,
    keyring: &Keyring,
) -> Result<Vec<Rotated>, RotationError> {
    opens_all(db, clock, keyring).await?;
    let mut anew: BTreeMap<&'static str, u64> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let mut done = Vec::with_capacity(Kind::ALL.len());
        for kind in Kind::ALL {
            let one = seal(db, clock, keyring, kind).await?;
            *anew.entry(kind.what()).or_default() += one.anew;
            done.push(one);
        }
        if done.iter().all(|one| one.anew == 0) {
            for one in &mut done {
                one.anew = anew.get(one.what).copied().unwrap_or(0);
            }
            return Ok(done);
        }
    }
    Err(RotationError::Sealing)
}

async fn seal(
    db: &Db,
    clock: &SharedClock,
    keyring: &Keyring,
    kind: Kind,
) -> Result<Rotated, RotationError> {
    let mut rotated = Rotated {
        what: kind.what(),
        anew: 0,
        of: 0,
    };
    let mut rows = kind.page(db, None, clock.now()).await?;
    while let Some(last) = rows.last() {
        let mut changes = Vec::new();
        for row in &rows {
            let anew = row.anew(keyring).map_err(|_| RotationError::Neither {
                table: kind.table(),
                row: row.row(),
                more: 0,
                is_unchanged: false,
            })?;
            changes.extend(anew.map(|anew| (row, anew)));
        }
        rotated.of += rows.len() as u64;
        if !changes.is_empty() {
            let tx = db.begin(Within::System(SCOPE)).await?;
            for (row, anew) in changes {
                rotated.anew += u64::from(kind.replace(&tx, row, anew).await?);
            }
            if kind == Kind::Installation {
                operator::note_rotation(&tx, clock).await?;
            }
            tx.commit().await?;
        }
        rows = kind.page(db, Some(last), clock.now()).await?;
    }
    Ok(rotated)
}

#[cfg(test)]
mod tests;
