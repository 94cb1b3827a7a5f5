use std::collections::HashSet;

use entities::{
    AgentId, CommandError, ModelId, Reference, Refusal, Scope, agent, input, llm_model, query::*,
};
use events::Command;

/// What has a slug: short names are unique in a tenant among those of one kind that are not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    Agent,
    Model,
}

/// How many numbers are tried in one statement, and how often.
const TRIED: usize = 100;
const TRIES: usize = 20;

/// The slug that was given, refused where it is taken; or one made of `name`, with a number where that is taken. The tenant's
/// row is locked before, so that of two who make the same one the second sees the first.
pub(crate) async fn slug_for(
    c: &Command,
    scope: &Scope,
    what: Named,
    given: Option<String>,
    name: &str,
) -> Result<String, CommandError> {
    super::own_tenant(c, scope, true).await?;
    if let Some(slug) = given {
        return match what.owner(c, scope, &slug).await? {
            None => Ok(slug),
            Some(owner) => Err(taken(&slug, Some(owner)).into()),
        };
    }
    let base = input::slug_of(name, what.word());
    for round in 0..TRIES {
        let numbers = round * TRIED + 1..=(round + 1) * TRIED;
        let candidates: Vec<String> = numbers
            .map(|number| match number {
                1 => base.clone(),
                number => format!("{base}-{number}"),
            })
            .collect();
        let there = what.there(c, scope, &candidates).await?;
        if let Some(free) = candidates.into_iter().find(|slug| !there.contains(slug)) {
            return Ok(free);
        }
    }
    let message = format!("too many are called {base:?}; give a slug");
    Err(Refusal::invalid(&["input", "slug"], message).into())
}

/// That a slug belongs to another one.
pub(crate) fn taken(slug: &str, owner: Option<Reference>) -> Refusal {
    Refusal::conflict(
        &["input", "slug"],
        format!("the slug {slug:?} is taken"),
        owner,
    )
}

impl Named {
    fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Model => "model",
        }
    }

    /// Whose a slug is.
    pub(crate) async fn owner(
        self,
        c: &Command,
        scope: &Scope,
        slug: &str,
    ) -> Result<Option<Reference>, CommandError> {
        let tx = &**c.tx();
        let found = match self {
            Self::Agent => {
                let rows = agent::Entity::in_tenant(scope)
                    .filter(agent::Column::DeletedAt.is_null())
                    .filter(agent::Column::Slug.eq(slug));
                rows.one(tx).await?.map(|row| Reference {
                    prefix: AgentId::PREFIX,
                    id: row.id.0,
                })
            }
            Self::Model => {
                let rows = llm_model::Entity::in_tenant(scope)
                    .filter(llm_model::Column::DeletedAt.is_null())
                    .filter(llm_model::Column::Slug.eq(slug));
                rows.one(tx).await?.map(|row| Reference {
                    prefix: ModelId::PREFIX,
                    id: row.id.0,
                })
            }
        };
        Ok(found)
    }

    async fn there(
        self,
        c: &Command,
        scope: &Scope,
        slugs: &[String],
    ) -> Result<HashSet<String>, CommandError> {
        let tx = &**c.tx();
        let found: Vec<String> = match self {
            Self::Agent => {
                let rows = agent::Entity::in_tenant(scope)
                    .filter(agent::Column::DeletedAt.is_null())
                    .filter(agent::Column::Slug.is_in(slugs));
                let only = rows.select_only().column(agent::Column::Slug);
                only.into_tuple().all(tx).await?
            }
            Self::Model => {
                let rows = llm_model::Entity::in_tenant(scope)
                    .filter(llm_model::Column::DeletedAt.is_null())
                    .filter(llm_model::Column::Slug.is_in(slugs));
                let only = rows.select_only().column(llm_model::Column::Slug);
                only.into_tuple().all(tx).await?
            }
        };
        Ok(found.into_iter().collect())
    }
}
