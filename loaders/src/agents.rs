//! Agents and their versions, as whoever asks may see them: with the right to talk to agents, or to change them.

use std::{collections::HashMap, sync::Arc};

use entities::{
    Access, AgentId, AgentVersionId, Permission, ResourceKind, Scope, UserId, Visibility, agent,
    agent_version, each,
    page::{self, Page, Rows, paged},
    query::*,
    sharing::{Whose, covered},
};

use crate::{
    Asker, Found, LoadError, Reader, Relation, Source,
    access::access,
    listing::{Listing, by_listing, dealt},
    matching::holding,
    reader::{rows_by, values_by},
};

/// An agent with its newest published version, and how far whoever asks may go with it.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenAgent {
    /// The agent.
    pub agent: agent::Model,
    /// As it runs.
    pub version: Arc<agent_version::Model>,
    /// USE of a deleted one: what used it shows its name.
    pub access: Access,
}

impl SeenAgent {
    /// Whether it can be used any more.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.agent.deleted_at.is_none()
    }
}

/// A version of an agent, and how far whoever asks may go with the agent.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenVersion {
    /// The version.
    pub version: Arc<agent_version::Model>,
    /// USE of one of a deleted agent.
    pub access: Access,
    /// Whether it is the one that the agent shows to whoever may only use it.
    pub is_newest: bool,
}

/// Whoever asks, if he may see agents at all.
pub(crate) fn viewer(source: &Source) -> Option<&Scope> {
    source
        .scope()
        .filter(|scope| scope.may(Permission::AgentsUse) || scope.may(Permission::AgentsEdit))
}

/// How far whoever asks may go with an agent.
pub(crate) fn access_to(scope: &Scope, row: &agent::Model) -> Option<Access> {
    access(scope, ResourceKind::Agent, &row.audience(), row.deleted_at)
}

/// Those of these agents that whoever asks may see.
async fn seen_of(
    source: &Source,
    scope: &Scope,
    rows: Vec<agent::Model>,
) -> Result<Vec<Arc<SeenAgent>>, LoadError> {
    let rows = rows
        .into_iter()
        .filter_map(|row| access_to(scope, &row).map(|access| (row, access)));
    with_versions(source, scope, rows.collect()).await
}

/// Puts the newest versions to agents, in one statement for all of them.
pub(crate) async fn with_versions(
    source: &Source,
    scope: &Scope,
    rows: Vec<(agent::Model, Access)>,
) -> Result<Vec<Arc<SeenAgent>>, LoadError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let versions = agent_version::Entity::in_tenant(scope)
        .filter(agent_version::Column::Id.is_in(rows.iter().map(|(row, _)| row.version_id)))
        .all(&**source.tx().await?)
        .await?;
    let mut versions: HashMap<AgentVersionId, agent_version::Model> =
        versions.into_iter().map(|row| (row.id, row)).collect();
    let whole = rows.into_iter().filter_map(|(agent, access)| {
        let version = Arc::new(versions.remove(&agent.version_id)?);
        Some(Arc::new(SeenAgent {
            agent,
            version,
            access,
        }))
    });
    Ok(whole.collect())
}

/// The agent of this id, deleted ones included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AgentOf(pub AgentId);

impl Relation for AgentOf {
    type Value = Arc<SeenAgent>;
    const ASKER: Asker = viewer;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let select = agent::Entity::in_tenant(scope)
            .filter(agent::Column::Id.is_in(keys.iter().map(|key| key.0)));
        let rows = select.all(&**source.tx().await?).await?;
        let seen = seen_of(source, scope, rows).await?;
        let found = seen.into_iter().map(|seen| (Self(seen.agent.id), seen));
        Ok(found.collect())
    }
}

/// The version of this id, those of deleted agents included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VersionOf(pub AgentVersionId);

impl Relation for VersionOf {
    type Value = Arc<SeenVersion>;
    const ASKER: Asker = viewer;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let tx = &**source.tx().await?;
        let versions = agent_version::Entity::in_tenant(scope)
            .filter(agent_version::Column::Id.is_in(keys.iter().map(|key| key.0)))
            .all(tx)
            .await?;
        if versions.is_empty() {
            return Ok(HashMap::new());
        }
        let agents = agent::Entity::in_tenant(scope)
            .filter(agent::Column::Id.is_in(versions.iter().map(|version| version.agent_id)))
            .all(tx)
            .await?;
        let access: HashMap<AgentId, (Access, AgentVersionId)> = agents
            .iter()
            .filter_map(|row| Some((row.id, (access_to(scope, row)?, row.version_id))))
            .collect();
        let seen = versions.into_iter().filter_map(|version| {
            let (access, newest) = *access.get(&version.agent_id)?;
            Some((
                Self(version.id),
                Arc::new(SeenVersion {
                    is_newest: version.id == newest,
                    version: Arc::new(version),
                    access,
                }),
            ))
        });
        Ok(seen.collect())
    }
}

/// A page of the versions of an agent, newest first: `number` is the order. Whoever asks was shown the agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VersionsOf {
    /// The agent.
    pub agent: AgentId,
    /// Which page.
    pub listing: Listing<()>,
}

impl Relation for VersionsOf {
    type Value = Arc<Rows<Arc<agent_version::Model>>>;
    const ASKER: Asker = viewer;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let mut found = HashMap::new();
        for (listing, keys) in by_listing(keys, |key| &key.listing) {
            let select = agent_version::Entity::in_tenant(scope)
                .filter(agent_version::Column::AgentId.is_in(keys.iter().map(|key| key.agent)));
            let rows = each::pages(
                select,
                keys.len(),
                agent_version::Column::AgentId,
                &[agent_version::Column::Number],
                true,
                listing.page(),
                &**source.tx().await?,
            )
            .await?;
            let of = |row: &agent_version::Model| {
                Some(Self {
                    agent: row.agent_id,
                    listing: listing.clone(),
                })
            };
            let lists = dealt(listing.page(), keys, rows, of);
            found.extend(lists.into_iter().map(|(key, rows)| (key, Arc::new(rows))));
        }
        Ok(found)
    }
}

/// The version of an agent with this number. Whoever asks was shown the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NumberedVersionOf {
    /// The agent.
    pub agent: AgentId,
    /// Counted from 1.
    pub number: i32,
}

impl Relation for NumberedVersionOf {
    type Value = Arc<agent_version::Model>;
    const ASKER: Asker = viewer;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        // Of each agent a few numbers are asked for: those of others among them are read for nothing and are few.
        let rows = agent_version::Entity::in_tenant(scope)
            .filter(agent_version::Column::AgentId.is_in(keys.iter().map(|key| key.agent)))
            .filter(agent_version::Column::Number.is_in(keys.iter().map(|key| key.number)))
            .all(&**source.tx().await?)
            .await?;
        Ok(rows_by(rows, |row| Self {
            agent: row.agent_id,
            number: row.number,
        }))
    }
}

/// Which agents a list has; what is left out is no condition.
#[derive(Debug, Clone, Default)]
pub struct AgentFilter {
    /// Held by its name, its slug or its description, whatever the case.
    pub query: Option<String>,
    /// Who made it.
    pub owner: Option<UserId>,
    /// Who sees it.
    pub visibility: Option<Visibility>,
    /// Whether new runs may use it.
    pub is_enabled: Option<bool>,
}

/// In which order, and so by which columns a place in the list is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentOrder {
    /// `name, id`, ascending.
    Name,
    /// `updated_at, id`, descending.
    RecentlyUpdated,
    /// `uses, id`, descending.
    MostUsed,
}

impl Reader {
    /// The agent of this slug.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn agent_by_slug(&self, slug: String) -> Result<Option<Arc<SeenAgent>>, LoadError> {
        self.run(|source| async move {
            let Some(scope) = viewer(&source) else {
                return Ok(None);
            };
            let select = seen(scope).filter(agent::Column::Slug.eq(slug));
            let rows = select.all(&**source.tx().await?).await?;
            Ok(seen_of(&source, scope, rows).await?.pop())
        })
        .await
    }

    /// The agents that are not deleted, in this order.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn agents(
        &self,
        page: Page,
        order: AgentOrder,
        filter: AgentFilter,
    ) -> Result<Rows<Arc<SeenAgent>>, LoadError> {
        self.run(move |source| async move {
            let Some(scope) = viewer(&source) else {
                return Ok(page.cut(Vec::new()));
            };
            let select = listed(&source, scope, filter).await?;
            let select = match order {
                AgentOrder::Name => paged(
                    select,
                    &[agent::Column::Name, agent::Column::Id],
                    false,
                    &page,
                ),
                AgentOrder::RecentlyUpdated => paged(
                    select,
                    &[agent::Column::UpdatedAt, agent::Column::Id],
                    true,
                    &page,
                ),
                AgentOrder::MostUsed => paged(
                    select,
                    &[agent::Column::Uses, agent::Column::Id],
                    true,
                    &page,
                ),
            };
            let rows = select.all(&**source.tx().await?).await?;
            Ok(page.cut(seen_of(&source, scope, rows).await?))
        })
        .await
    }

    /// How many those are; `None` for more than [`page::COUNTED`].
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn count_agents(&self, filter: AgentFilter) -> Result<Option<u64>, LoadError> {
        self.run(|source| async move {
            let Some(scope) = viewer(&source) else {
                return Ok(Some(0));
            };
            let select = listed(&source, scope, filter).await?;
            Ok(page::count(select, &**source.tx().await?).await?)
        })
        .await
    }

    /// How many versions an agent has that whoever asks was shown; `None` for more than [`page::COUNTED`].
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn count_versions(&self, agent: AgentId) -> Result<Option<u64>, LoadError> {
        Ok(self.load(VersionCountOf(agent)).await?.unwrap_or(Some(0)))
    }
}

/// How many versions an agent has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct VersionCountOf(AgentId);

impl Relation for VersionCountOf {
    type Value = Option<u64>;
    const ASKER: Asker = viewer;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let select = agent_version::Entity::in_tenant(scope)
            .filter(agent_version::Column::AgentId.is_in(keys.iter().map(|key| key.0)));
        let counts = each::counts(
            select,
            agent_version::Column::AgentId,
            &**source.tx().await?,
        )
        .await?;
        Ok(values_by(counts, Self))
    }
}

async fn listed(
    source: &Source,
    scope: &Scope,
    filter: AgentFilter,
) -> Result<Select<agent::Entity>, LoadError> {
    let mut select = seen(scope);
    if let Some(owner) = filter.owner {
        select = select.filter(agent::Column::OwnerId.eq(owner));
    }
    if let Some(visibility) = filter.visibility {
        select = select.filter(agent::Column::Visibility.eq(visibility));
    }
    if let Some(is_enabled) = filter.is_enabled {
        select = select.filter(agent::Column::IsEnabled.eq(is_enabled));
    }
    if let Some(text) = filter.query {
        let columns = [
            agent::Column::Name,
            agent::Column::Slug,
            agent::Column::Description,
        ];
        select = select.filter(holding(source.tx().await?.backend(), &columns, &text));
    }
    Ok(select)
}

/// Those that are not deleted and that the scope gives any access to.
fn seen(scope: &Scope) -> Select<agent::Entity> {
    let there = agent::Entity::in_tenant(scope).filter(agent::Column::DeletedAt.is_null());
    let whose = Whose {
        id: agent::Column::Id,
        owner: agent::Column::OwnerId,
        visibility: agent::Column::Visibility,
        group: agent::Column::GroupId,
    };
    covered(there, scope, ResourceKind::Agent, whose)
}
