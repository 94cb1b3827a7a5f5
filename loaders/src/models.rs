//! Models, as whoever asks may see them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use engine::models::status;
use entities::{
    Access, ModelHealthStatus, ModelId, ModelKind, ModelProvider, ResourceKind, Scope,
    health::Tally,
    llm_model, model_fallback, model_minute,
    page::{self, Page, Rows, paged},
    query::*,
    sharing::{Whose, covered},
};

use crate::{
    Found, LoadError, Reader, Relation, Source,
    access::access,
    matching::holding,
    reader::{lists_by, values_by},
};

/// A model, and how far whoever asks may go with it.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenModel {
    /// The model.
    pub row: llm_model::Model,
    /// USE of a deleted one: what used it shows its name.
    pub access: Access,
}

impl SeenModel {
    fn of(scope: &Scope, row: llm_model::Model) -> Option<Self> {
        let access = access(scope, ResourceKind::Model, &row.audience(), row.deleted_at)?;
        Some(Self { row, access })
    }

    /// Whether it can be used any more.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.row.deleted_at.is_none()
    }
}

/// The model of this id, deleted ones included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModelOf(pub ModelId);

impl Relation for ModelOf {
    type Value = Arc<SeenModel>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let select = llm_model::Entity::in_tenant(scope)
            .filter(llm_model::Column::Id.is_in(keys.iter().map(|key| key.0)));
        let rows = select.all(&**source.tx().await?).await?;
        let seen = rows.into_iter().filter_map(|row| SeenModel::of(scope, row));
        Ok(seen
            .map(|seen| (Self(seen.row.id), Arc::new(seen)))
            .collect())
    }
}

/// The models that are tried after this one, in order; those that whoever asks does not see are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FallbacksOf(pub ModelId);

impl Relation for FallbacksOf {
    type Value = Arc<Vec<Arc<SeenModel>>>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let tx = &**source.tx().await?;
        let places = model_fallback::Entity::in_tenant(scope)
            .filter(model_fallback::Column::ModelId.is_in(keys.iter().map(|key| key.0)))
            .order_by_asc(model_fallback::Column::ModelId)
            .order_by_asc(model_fallback::Column::Position)
            .all(tx)
            .await?;
        if places.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = llm_model::Entity::in_tenant(scope)
            .filter(llm_model::Column::Id.is_in(places.iter().map(|place| place.fallback_id)))
            .filter(llm_model::Column::DeletedAt.is_null())
            .all(tx)
            .await?;
        let seen = rows.into_iter().filter_map(|row| SeenModel::of(scope, row));
        let seen: HashMap<ModelId, Arc<SeenModel>> =
            seen.map(|seen| (seen.row.id, Arc::new(seen))).collect();
        Ok(lists_by(places.iter().filter_map(|place| {
            let model = seen.get(&place.fallback_id)?;
            Some((Self(place.model_id), model.clone()))
        })))
    }
}

/// What the calls of a model came to in the minutes that began after that time; nothing where there were none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TallyOf(pub ModelId, pub DateTime<Utc>);

impl Relation for TallyOf {
    type Value = Tally;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let mut by_time: BTreeMap<DateTime<Utc>, Vec<ModelId>> = BTreeMap::new();
        for Self(model, since) in keys {
            by_time.entry(since).or_default().push(model);
        }
        let tx = source.tx().await?;
        let mut found = HashMap::new();
        // One for a request, which is over within the minute, or begins another.
        for (since, models) in by_time {
            let tallies = model_minute::Entity::tallies(scope, tx, &models, since).await?;
            found.extend(values_by(tallies, |model| Self(model, since)));
        }
        Ok(found)
    }
}

/// Whether a model can be called, whoever asks: to tell why an agent can't run, nothing of the model is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callable {
    /// It can, or one that is tried after it.
    Yes,
    /// It does not answer at the moment, nor does any that is tried after it.
    Unhealthy,
    /// It was deleted.
    Deleted,
}

/// Whether the model of this id can be called; nothing of one that never was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallableOf(pub ModelId);

impl Relation for CallableOf {
    type Value = Callable;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let tx = &**source.tx().await?;
        let callable = |row: &llm_model::Model| {
            if row.deleted_at.is_some() {
                Callable::Deleted
            } else if status(row, None) == ModelHealthStatus::Unhealthy {
                Callable::Unhealthy
            } else {
                Callable::Yes
            }
        };
        let rows = llm_model::Entity::in_tenant(scope)
            .filter(llm_model::Column::Id.is_in(keys.iter().map(|key| key.0)))
            .all(tx)
            .await?;
        let mut found: HashMap<_, _> = rows
            .iter()
            .map(|row| (Self(row.id), callable(row)))
            .collect();
        let unhealthy = || {
            let ill = found.iter().filter(|(_, is)| **is == Callable::Unhealthy);
            ill.map(|(key, _)| key.0)
        };
        if unhealthy().next().is_none() {
            return Ok(found);
        }
        let after = model_fallback::Entity::in_tenant(scope)
            .filter(model_fallback::Column::ModelId.is_in(unhealthy()))
            .all(tx)
            .await?;
        let rows = llm_model::Entity::in_tenant(scope)
            .filter(llm_model::Column::Id.is_in(after.iter().map(|place| place.fallback_id)))
            .all(tx)
            .await?;
        for row in rows.iter().filter(|row| callable(row) == Callable::Yes) {
            for place in after.iter().filter(|place| place.fallback_id == row.id) {
                found.insert(Self(place.model_id), Callable::Yes);
            }
        }
        Ok(found)
    }
}

/// The model for agents that name none: this one, which is the tenant's default, or else a BUILTIN one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DefaultOf(pub Option<ModelId>);

impl Relation for DefaultOf {
    type Value = ModelId;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let is_it = Condition::any()
            .add(llm_model::Column::Provider.eq(ModelProvider::Builtin))
            .add(llm_model::Column::Id.is_in(keys.iter().filter_map(|key| key.0)));
        let rows = llm_model::Entity::in_tenant(scope)
            .filter(llm_model::Column::Kind.eq(ModelKind::Chat))
            .filter(llm_model::Column::DeletedAt.is_null())
            .filter(is_it)
            .order_by_asc(llm_model::Column::CreatedAt)
            .all(&**source.tx().await?)
            .await?;
        let is_default = |key: &Self| rows.iter().find(|row| Some(row.id) == key.0);
        let builtin = || {
            rows.iter()
                .find(|row| row.provider == ModelProvider::Builtin)
        };
        Ok(keys
            .into_iter()
            .filter_map(|key| Some((key, is_default(&key).or_else(builtin)?.id)))
            .collect())
    }
}

/// Which models a list has; what is left out is no condition.
#[derive(Debug, Clone, Default)]
pub struct ModelFilter {
    /// What it does: one of these.
    pub kinds: Option<Vec<ModelKind>>,
    /// Whose wire it speaks: one of these.
    pub providers: Option<Vec<ModelProvider>>,
    /// Held by its name, its slug or the provider's name for it, whatever the case.
    pub query: Option<String>,
}

impl Reader {
    /// The model of this slug.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn model_by_slug(&self, slug: String) -> Result<Option<Arc<SeenModel>>, LoadError> {
        self.run(|source| async move {
            let Some(scope) = source.scope() else {
                return Ok(None);
            };
            let select = seen(scope).filter(llm_model::Column::Slug.eq(slug));
            let row = select.one(&**source.tx().await?).await?;
            Ok(row.and_then(|row| SeenModel::of(scope, row)).map(Arc::new))
        })
        .await
    }

    /// The models that are not deleted: `name, id` is the order.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn models(
        &self,
        page: Page,
        filter: ModelFilter,
    ) -> Result<Rows<Arc<SeenModel>>, LoadError> {
        self.run(|source| async move {
            let Some(scope) = source.scope() else {
                return Ok(page.cut(Vec::new()));
            };
            let select = listed(&source, scope, filter).await?;
            let select = paged(
                select,
                &[llm_model::Column::Name, llm_model::Column::Id],
                false,
                &page,
            );
            let rows = select.all(&**source.tx().await?).await?;
            Ok(page.cut(
                rows.into_iter()
                    .filter_map(|row| SeenModel::of(scope, row))
                    .map(Arc::new)
                    .collect(),
            ))
        })
        .await
    }

    /// How many those are; `None` for more than [`page::COUNTED`].
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn count_models(&self, filter: ModelFilter) -> Result<Option<u64>, LoadError> {
        self.run(|source| async move {
            let Some(scope) = source.scope() else {
                return Ok(Some(0));
            };
            let select = listed(&source, scope, filter).await?;
            Ok(page::count(select, &**source.tx().await?).await?)
        })
        .await
    }
}

async fn listed(
    source: &Source,
    scope: &Scope,
    filter: ModelFilter,
) -> Result<Select<llm_model::Entity>, LoadError> {
    let mut select = seen(scope);
    if let Some(kinds) = filter.kinds {
        select = select.filter(llm_model::Column::Kind.is_in(kinds));
    }
    if let Some(providers) = filter.providers {
        select = select.filter(llm_model::Column::Provider.is_in(providers));
    }
    if let Some(text) = filter.query {
        let columns = [
            llm_model::Column::Name,
            llm_model::Column::Slug,
            llm_model::Column::ModelName,
        ];
        select = select.filter(holding(source.tx().await?.backend(), &columns, &text));
    }
    Ok(select)
}

/// Those that are not deleted and that the scope gives any access to.
fn seen(scope: &Scope) -> Select<llm_model::Entity> {
    let there = llm_model::Entity::in_tenant(scope).filter(llm_model::Column::DeletedAt.is_null());
    let whose = Whose {
        id: llm_model::Column::Id,
        owner: llm_model::Column::OwnerId,
        visibility: llm_model::Column::Visibility,
        group: llm_model::Column::GroupId,
    };
    covered(there, scope, ResourceKind::Model, whose)
}
