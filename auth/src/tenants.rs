//! Tenants, and what each decides for itself.

use entities::{
    CommandError, ModelId, ModelKind, Permission, Reference, Refusal, ResourceKind, Scope,
    SystemScope, TenantId, Tx, auto_join_domain,
    db::{Failure, failure},
    input, llm_model,
    query::*,
    tenant,
};
use events::{Command, audit::Entry};
use futures_util::future::BoxFuture;

use crate::{Authority, rank};

const SCOPE: SystemScope = SystemScope::of("tenants");

/// Days that conversations are kept untouched, at most: a hundred years.
const DAYS: i64 = 36_500;
/// Runs of a tenant at once, at most.
const RUNS: i64 = 1_000_000;
/// Domains of a tenant.
const DOMAINS: usize = 100;
/// Characters of a domain (RFC 1035, 2.3.4).
const DOMAIN: usize = 253;

/// A tenant to be.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// Unique in the installation.
    pub slug: String,
    /// Shown to people, at most 200 characters.
    pub name: String,
}

/// What changes of a tenant; `None` leaves it, `Some(None)` takes it off.
#[derive(Debug, Clone, Default)]
pub struct ChangeTenant {
    /// Another name.
    pub name: Option<String>,
    /// Whether anybody may act in it: by an administrator of the platform.
    pub is_active: Option<bool>,
    /// For agents that name no model.
    pub default_model: Option<Option<ModelId>>,
    /// For titles.
    pub title_model: Option<Option<ModelId>>,
    /// Days after which conversations that nobody touched are deleted.
    pub retention_days: Option<Option<i32>>,
    /// Runs at once, within what the installation allows; taken off: as many as that.
    pub max_concurrent_runs: Option<Option<i32>>,
    /// ISO 4217.
    pub currency: Option<String>,
    /// Whoever a trusted provider proves an address of such a domain for may join: by an administrator of the platform.
    pub auto_join_domains: Option<Vec<String>>,
}

impl ChangeTenant {
    fn check(&self) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        if let Some(name) = &self.name {
            refusals.extend(input::filled(&["input", "name"], name, input::NAME).err());
        }
        if let Some(days) = self.retention_days.flatten() {
            let path = &["input", "retentionDays"];
            refusals.extend(input::range(path, days.into(), 1, DAYS).err());
        }
        if let Some(runs) = self.max_concurrent_runs.flatten() {
            let path = &["input", "maxConcurrentRuns"];
            refusals.extend(input::range(path, runs.into(), 1, RUNS).err());
        }
        if let Some(currency) = &self.currency {
            let fits = currency.len() == 3 && currency.bytes().all(|b| b.is_ascii_uppercase());
            if !fits {
                let shown: String = currency.chars().take(20).collect();
                let message =
                    format!("currency must be three capital letters of ISO 4217, got {shown:?}");
                refusals.push(Refusal::invalid(&["input", "currency"], message));
            }
        }
        refusals.extend(self.check_domains());
        refusals
    }

    fn check_domains(&self) -> Vec<Refusal> {
        let domains = self.auto_join_domains.as_deref().unwrap_or_default();
        let given = domains.len();
        if given > DOMAINS {
            let path = &["input", "oidcAutoJoinDomains"];
            let message =
                format!("oidcAutoJoinDomains has {given} entries, at most {DOMAINS} are allowed");
            let actual = i64::try_from(given).unwrap_or(i64::MAX);
            return vec![Refusal::beyond(path, message, DOMAINS as i64, actual)];
        }
        let is_one = |domain: &str| {
            domain.len() <= DOMAIN
                && domain.contains('.')
                && domain.split('.').all(|label| {
                    (1..=63).contains(&label.len())
                        && !label.starts_with('-')
                        && !label.ends_with('-')
                        && label
                            .bytes()
                            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                })
        };
        let wrong = domains
            .iter()
            .enumerate()
            .filter(|(_, domain)| !is_one(domain));
        wrong
            .map(|(at, domain)| {
                let shown: String = domain.chars().take(80).collect();
                let message = format!("{shown:?} is no domain, as in example.com");
                Refusal::invalid(&["input", "oidcAutoJoinDomains", &at.to_string()], message)
            })
            .collect()
    }
}

impl Authority {
    /// Makes a tenant, which nobody is a member of yet; `seed` adds to it in the same transaction.
    ///
    /// # Errors
    /// [`CommandError::Forbidden`] where the caller does not look after the installation; refusals of the input; a Conflict for a
    /// slug that is taken.
    pub async fn create_tenant<F>(
        &self,
        scope: &Scope,
        new: NewTenant,
        seed: F,
    ) -> Result<TenantId, CommandError>
    where
        F: for<'c> FnOnce(&'c Tx, &'c Scope) -> BoxFuture<'c, Result<(), CommandError>>
            + Send
            + 'static,
    {
        let needs = Permission::PlatformManage;
        if !scope.may(needs) {
            return Err(CommandError::Forbidden(Some(needs)));
        }
        let refusals: Vec<_> = [
            input::slug(&["input", "slug"], &new.slug).err(),
            input::filled(&["input", "name"], &new.name, input::NAME).err(),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !refusals.is_empty() {
            return Err(CommandError::Refused(refusals));
        }
        let id = self.0.clock.uuid();
        let (_, data_key) = self.0.keyring.new_data_key(id);
        let (id, by) = (TenantId(id), scope.clone());
        self.command_for(move |c| {
            Box::pin(async move {
                let now = c.now();
                let row = tenant::Model {
                    id,
                    slug: new.slug.clone(),
                    name: new.name.trim().to_owned(),
                    currency: "USD".to_owned(),
                    is_active: true,
                    default_model_id: None,
                    title_model_id: None,
                    retention_days: None,
                    max_concurrent_runs: None,
                    data_key,
                    served_at: now,
                    created_at: now,
                    updated_at: now,
                };
                add(c.tx(), row).await?;
                let there = Scope::visiting(id, by.user(), by.principal());
                seed(c.tx(), &there).await?;
                c.about(id);
                // It stands where it was done as well.
                c.audit(Entry {
                    tenant: id,
                    actor: Some(by.user()),
                    api_key: None,
                    on_behalf_of: None,
                    action: "createTenant".into(),
                    target: Some(id.to_string()),
                    outcome: entities::AuditOutcome::Allowed,
                    address: None,
                    details: serde_json::json!({ "fields": ["slug", "name"] }),
                });
                Ok(id)
            })
        })
        .await
    }

    /// Changes the tenant that is asked in: by whoever manages it; its name, whether it is active and its domains by an
    /// administrator of the platform.
    ///
    /// # Errors
    /// NotFound for another tenant; Forbidden for what the caller may not change of it; refusals of the input; a Conflict for a
    /// domain of another tenant.
    pub async fn update_tenant(
        &self,
        scope: &Scope,
        id: TenantId,
        change: ChangeTenant,
    ) -> Result<TenantId, CommandError> {
        let path = &["input", "id"];
        if id != scope.tenant() {
            return Err(Refusal::not_found(path, id).into());
        }
        let (manages, of_platform) = (
            scope.may(Permission::TenantManage),
            scope.may(Permission::PlatformManage),
        );
        let refusals = forbidden(&change, manages, of_platform);
        if !refusals.is_empty() {
            return Err(CommandError::Refused(refusals));
        }
        let refusals = change.check();
        if !refusals.is_empty() {
            return Err(CommandError::Refused(refusals));
        }
        let by = scope.clone();
        self.command_for(move |c| Box::pin(async move { update(c, &by, change).await }))
            .await?;
        self.forget_tenant(id);
        Ok(id)
    }
}

/// What of a change the caller may not make.
fn forbidden(change: &ChangeTenant, manages: bool, of_platform: bool) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut ask = |field: &str, given: bool, may: bool, needs: Permission| {
        if given && !may {
            refusals.push(Refusal::forbidden(&["input", field], Some(needs)));
        }
    };
    use Permission::{PlatformManage, TenantManage};
    ask(
        "name",
        change.name.is_some(),
        manages || of_platform,
        TenantManage,
    );
    ask(
        "isActive",
        change.is_active.is_some(),
        of_platform,
        PlatformManage,
    );
    ask(
        "oidcAutoJoinDomains",
        change.auto_join_domains.is_some(),
        of_platform,
        PlatformManage,
    );
    for (field, given) in [
        ("defaultModelId", change.default_model.is_some()),
        ("titleModelId", change.title_model.is_some()),
        ("retentionDays", change.retention_days.is_some()),
        ("maxConcurrentRuns", change.max_concurrent_runs.is_some()),
        ("currency", change.currency.is_some()),
    ] {
        ask(field, given, manages, TenantManage);
    }
    if refusals.is_empty() && !manages && !of_platform {
        refusals.push(Refusal::forbidden(&["input", "id"], Some(TenantManage)));
    }
    refusals
}

async fn add(tx: &Tx, row: tenant::Model) -> Result<(), CommandError> {
    let slug = row.slug.clone();
    tenant::Entity::add(&**tx, row)
        .await
        .map_err(|error| match failure(&error) {
            Failure::Taken => {
                let message = format!("the slug {slug:?} is taken");
                CommandError::from(Refusal::conflict(&["input", "slug"], message, None))
            }
            Failure::Transient | Failure::Permanent => error.into(),
        })
}

async fn update(c: &mut Command, by: &Scope, change: ChangeTenant) -> Result<(), CommandError> {
    let row = rank::lock_tenant(c.tx(), by).await?;
    for (field, model) in [
        ("defaultModelId", change.default_model.flatten()),
        ("titleModelId", change.title_model.flatten()),
    ] {
        if let Some(id) = model {
            chat_model(c, by, id, &["input", field]).await?;
        }
    }
    let now = c.now();
    if let Some(domains) = &change.auto_join_domains {
        set_domains(c.tx(), by.tenant(), domains).await?;
    }
    let default = change.default_model.unwrap_or(row.default_model_id);
    tenant::Entity::change_anywhere(SCOPE)
        .filter(tenant::Column::Id.eq(by.tenant()))
        .set(tenant::ActiveModel {
            name: Set(change.name.map_or(row.name, |name| name.trim().to_owned())),
            is_active: Set(change.is_active.unwrap_or(row.is_active)),
            default_model_id: Set(default),
            title_model_id: Set(change.title_model.unwrap_or(row.title_model_id)),
            retention_days: Set(change.retention_days.unwrap_or(row.retention_days)),
            max_concurrent_runs: Set(change
                .max_concurrent_runs
                .unwrap_or(row.max_concurrent_runs)),
            currency: Set(change.currency.unwrap_or(row.currency)),
            updated_at: Set(now),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    if default != row.default_model_id {
        // Both say of themselves whether they are the default.
        let ids = [default, row.default_model_id];
        let models = llm_model::Entity::in_tenant(by)
            .filter(llm_model::Column::Id.is_in(ids.into_iter().flatten()))
            .filter(llm_model::Column::DeletedAt.is_null())
            .all(&**c.tx())
            .await?;
        for model in models {
            let seen_by = Some(model.audience());
            c.changed(
                by,
                ResourceKind::Model,
                model.id.0,
                seen_by.clone(),
                seen_by,
            );
        }
        c.about(by.tenant());
    }
    Ok(())
}

/// A CHAT model that the caller sees.
async fn chat_model(
    c: &Command,
    by: &Scope,
    id: ModelId,
    path: &[&str],
) -> Result<(), CommandError> {
    let row = llm_model::Entity::in_tenant(by)
        .filter(llm_model::Column::Id.eq(id))
        .filter(llm_model::Column::DeletedAt.is_null())
        .one(&**c.tx())
        .await?
        .filter(|row| by.access(ResourceKind::Model, &row.audience()).is_some())
        .ok_or_else(|| Refusal::not_found(path, id))?;
    if row.kind == ModelKind::Chat {
        Ok(())
    } else {
        Err(Refusal::invalid(path, format!("{:?} is no CHAT model", row.name)).into())
    }
}

async fn set_domains(tx: &Tx, tenant: TenantId, domains: &[String]) -> Result<(), CommandError> {
    let mut domains: Vec<String> = domains.iter().map(|it| it.to_ascii_lowercase()).collect();
    domains.sort();
    domains.dedup();
    let others = auto_join_domain::Entity::anywhere(SCOPE)
        .filter(auto_join_domain::Column::Domain.is_in(domains.iter().cloned()))
        .filter(auto_join_domain::Column::TenantId.ne(tenant))
        .one(&**tx)
        .await?;
    let conflict = |domain: &str, of: Option<TenantId>| {
        let message = format!("the domain {domain:?} belongs to another tenant");
        let conflicting = of.map(|id| Reference {
            prefix: TenantId::PREFIX,
            id: id.0,
        });
        Refusal::conflict(&["input", "oidcAutoJoinDomains"], message, conflicting)
    };
    if let Some(other) = others {
        return Err(conflict(&other.domain, Some(other.tenant_id)).into());
    }
    auto_join_domain::Entity::delete_anywhere(SCOPE)
        .filter(auto_join_domain::Column::TenantId.eq(tenant))
        .exec(&**tx)
        .await?;
    let rows = domains.iter().map(|domain| auto_join_domain::Model {
        domain: domain.clone(),
        tenant_id: tenant,
    });
    auto_join_domain::Entity::add_all(&**tx, rows.collect())
        .await
        .map_err(|error| match failure(&error) {
            Failure::Taken => conflict(&domains.join(", "), None).into(),
            Failure::Transient | Failure::Permanent => CommandError::from(error),
        })
}
