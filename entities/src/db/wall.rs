//! PostgreSQL's own wall between tenants: the roles that statements run in, and the look at the start whether it stands. SQLite
//! has none.

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement,
    sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, postgres::PgConnectOptions},
};

use super::{Db, Inner};
use crate::{SystemScope, TenantId};

/// The role of what is done for a tenant: it sees the rows of the tenant that its transaction names, and without one none.
pub(super) const TENANT_ROLE: &str = "weft_tenant";
/// The role of sign-in, the writer of the log, claims and sweeps: it sees the rows of all tenants, of the tables that these need.
pub(super) const SYSTEM_ROLE: &str = "weft_system";

/// Which side of the wall a transaction stands on. On PostgreSQL the database holds it to that; on SQLite it says what is meant.
#[derive(Debug, Clone, Copy)]
pub enum Within {
    /// One tenant's rows.
    Tenant(TenantId),
    /// No tenant's rows: nobody is signed in.
    Nowhere,
    /// Rows of all tenants, of the tables that the system itself needs.
    System(SystemScope),
    /// Everything that the login's own role may do: for the little that the two roles may not.
    Owner(SystemScope),
}

impl Within {
    pub(super) const AS_SYSTEM: &'static str = "set local role weft_system";

    /// The role, as SET ROLE takes it. Every connection is in the tenant's role from its start.
    pub(super) fn role(self) -> &'static str {
        match self {
            Self::Tenant(_) | Self::Nowhere => TENANT_ROLE,
            Self::System(_) => SYSTEM_ROLE,
            Self::Owner(_) => "none",
        }
    }

    /// What begins a transaction.
    pub(super) fn begin(self) -> String {
        let role = self.role();
        match self {
            Self::Tenant(TenantId(tenant)) => {
                format!("begin; set local role {role}; set local weft.tenant = '{tenant}'")
            }
            _ => format!("begin; set local role {role}; set local weft.tenant = ''"),
        }
    }
}

/// The options of a connection that is in a role from its start.
pub(super) fn in_role(options: &PgConnectOptions, role: &str) -> PgConnectOptions {
    options.clone().options([("role", role)])
}

/// How often to try where others make the roles of the same cluster.
const TRIES: usize = 5;

/// Makes the two roles where the cluster lacks them, and lets the login act in them. They belong to the cluster, so this comes
/// before any of its databases is looked at.
pub(super) async fn make_roles(options: &PgConnectOptions) -> Result<(), DbErr> {
    let mut connection = options.connect().await.map_err(super::connecting)?;
    let mut tried = 0;
    let made = loop {
        tried += 1;
        // Two processes that make them at once get in each other's way, once.
        match connection.execute(AssertSqlSafe(ROLES)).await {
            Err(_) if tried < TRIES => {}
            made => break made,
        }
    };
    let _left = connection.close().await;
    made.map(drop).map_err(|error| {
        DbErr::Custom(format!(
            "the database's user may not act as {TENANT_ROLE} and {SYSTEM_ROLE}, and could not make it so: {error}. \
             Let an administrator of the cluster run: create role {TENANT_ROLE}; create role {SYSTEM_ROLE}; \
             grant {TENANT_ROLE}, {SYSTEM_ROLE} to the user of database.url"
        ))
    })
}

const ROLES: &str = "do $$
declare
    name text;
begin
    foreach name in array array['weft_tenant', 'weft_system'] loop
        if not exists (select 1 from pg_roles where rolname = name) then
            execute format('create role %I nologin noinherit', name);
        end if;
        if not pg_has_role(session_user, name, 'MEMBER') then
            -- Acts in it, and has nothing of it otherwise; before 16 that is a property of the user itself.
            if current_setting('server_version_num')::int >= 160000 then
                execute format('grant %I to %I with inherit false, set true', name, session_user);
            else
                execute format('grant %I to %I', name, session_user);
            end if;
        end if;
    end loop;
end
$$";

/// What of the wall is not as it must be, a sentence each; the schema is current.
const FAULTS: &str = "
select format('role %I must not be a superuser, bypass row security, create roles, or inherit', rolname)
  from pg_roles where rolname in ('weft_tenant', 'weft_system') and (rolsuper or rolbypassrls or rolcreaterole or rolinherit)
union all
select format('role %I must own nothing, but owns %s', a.rolname, c.oid::regclass)
  from pg_class c join pg_roles a on a.oid = c.relowner where a.rolname in ('weft_tenant', 'weft_system')
union all
select format('row security of table %s is not enabled and forced', c.oid::regclass)
  from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
  where c.relkind in ('r', 'p') and c.relnamespace = current_schema()::regnamespace
    and not (c.relrowsecurity and c.relforcerowsecurity)
union all
select format('table %s has a policy for %I beside its own: %I', c.oid::regclass, r.rolname, p.polname)
  from pg_policy p join pg_class c on c.oid = p.polrelid
  join pg_roles r on r.oid = any (p.polroles) or 0 = any (p.polroles)
  where c.relnamespace = current_schema()::regnamespace and r.rolname = 'weft_tenant' and p.polpermissive
    and p.polname not in ('weft_tenant', 'weft_members')";

/// The tables with rows that the run-time role must not see without a tenant.
const TABLES: &str = "
select c.oid::regclass::text
  from pg_class c
  where c.relkind in ('r', 'p') and c.relnamespace = current_schema()::regnamespace
    and has_table_privilege('weft_tenant', c.oid, 'SELECT')
  order by 1";

impl Db {
    /// Looks whether PostgreSQL holds tenants apart: in the role that requests are served in, and without a tenant, no row of any
    /// table may be there. Nothing on SQLite, which has no such wall.
    ///
    /// # Errors
    /// A sentence of what is wrong for the first that is; or what the database says.
    pub async fn probe_wall(&self) -> Result<Result<(), String>, DbErr> {
        let Inner::Postgres { owner, .. } = &*self.inner else {
            return Ok(Ok(()));
        };
        if let Some(fault) = first(owner, FAULTS).await? {
            return Ok(Err(fault));
        }
        let tables = all(owner, TABLES).await?;
        let tx = self.begin(Within::Nowhere).await?;
        for table in tables {
            // as the catalogue writes the name, quoted where it must be
            let seen = Statement::from_string(
                DbBackend::Postgres,
                format!("select 1 from {table} limit 1"),
            );
            if tx.query_one_raw(seen).await?.is_some() {
                return Ok(Err(format!(
                    "role {TENANT_ROLE} sees rows of table {table} without a tenant"
                )));
            }
        }
        tx.rollback().await?;
        Ok(Ok(()))
    }
}

async fn all(db: &DatabaseConnection, sql: &str) -> Result<Vec<String>, DbErr> {
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    let rows = db.query_all_raw(statement).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

async fn first(db: &DatabaseConnection, sql: &str) -> Result<Option<String>, DbErr> {
    Ok(all(db, sql).await?.into_iter().next())
}
