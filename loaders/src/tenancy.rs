//! What belongs to the tenant that is asked in: its members, its invitations, its API keys. For those who manage members, and for
//! administrators of the platform, who see of the invitations those that were made by one of them, and no keys. And the tenants
//! themselves.

use std::{collections::HashMap, sync::Arc};

use entities::{
    InvitationId, Permission, Scope, UserId, api_key, auto_join_domain, invitation,
    page::{self, Page, Rows, paged},
    people,
    query::*,
    tenant, user,
};

use crate::{
    Asker, Found, LoadError, Reader, Relation, Source,
    identity::{Belonging, Member},
    listing::Listing,
    matching::holding,
    reader::rows_by,
};

/// Whether somebody may see who belongs to the tenant that he asks in.
#[must_use]
pub fn may_see_members(scope: &Scope) -> bool {
    scope.may(Permission::MembersManage) || scope.may(Permission::PlatformManage)
}

fn head_count(source: &Source) -> Option<&Scope> {
    source.scope().filter(|scope| may_see_members(scope))
}

fn manager(source: &Source) -> Option<&Scope> {
    let manages = |scope: &&Scope| scope.may(Permission::MembersManage);
    source.scope().filter(manages)
}

/// Whose name or address holds the text.
async fn called(source: &Source, query: Option<&String>) -> Result<Condition, LoadError> {
    let Some(text) = query else {
        return Ok(Condition::all());
    };
    let columns = [user::Column::Name, user::Column::Email];
    Ok(holding(source.tx().await?.backend(), &columns, text))
}

/// A page of those who belong to the tenant, suspended ones included, and whose name or address holds a text: the name and the id
/// of the membership are the order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Members(pub Listing<Option<String>>);

impl Relation for Members {
    type Value = Rows<Arc<Belonging>>;
    const ASKER: Asker = head_count;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let tx = source.tx().await?;
        let here = people::tenants(scope, tx, vec![scope.tenant()]).await?;
        let Some(tenant) = here.into_iter().next().map(Arc::new) else {
            return Ok(HashMap::new());
        };
        let mut found = HashMap::with_capacity(keys.len());
        for key in keys {
            let page = key.0.page();
            let condition = called(source, key.0.filter().as_ref()).await?;
            let rows = people::members_by_name(scope, &**tx, condition, page).await?;
            let belonging = |(membership, user)| Belonging::in_one(membership, user, &tenant);
            let rows = page.cut(rows.into_iter().map(belonging).map(Arc::new).collect());
            found.insert(key, rows);
        }
        Ok(found)
    }
}

/// How many those are; `None` for more than [`page::COUNTED`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MemberCount(pub Option<String>);

impl Relation for MemberCount {
    type Value = Option<u64>;
    const ASKER: Asker = head_count;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let mut found = HashMap::with_capacity(keys.len());
        for key in keys {
            let condition = called(source, key.0.as_ref()).await?;
            let count = people::count_members(scope, &**source.tx().await?, condition).await?;
            found.insert(key, count);
        }
        Ok(found)
    }
}

/// The invitations that the scope sees.
fn invitations(scope: &Scope) -> Select<invitation::Entity> {
    let all = invitation::Entity::in_tenant(scope);
    if scope.may(Permission::MembersManage) {
        all
    } else {
        all.filter(invitation::Column::ByPlatform.eq(true))
    }
}

/// The invitation of this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InvitationOf(pub InvitationId);

impl Relation for InvitationOf {
    type Value = Arc<invitation::Model>;
    const ASKER: Asker = head_count;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let rows = invitations(scope)
            .filter(invitation::Column::Id.is_in(keys.iter().map(|key| key.0)))
            .all(&**source.tx().await?)
            .await?;
        Ok(rows_by(rows, |row| Self(row.id)))
    }
}

/// A page of the invitations into the tenant, newest first: `created_at, id` is the order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Invitations(pub Listing<()>);

impl Relation for Invitations {
    type Value = Rows<Arc<invitation::Model>>;
    const ASKER: Asker = head_count;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let order = [invitation::Column::CreatedAt, invitation::Column::Id];
        let mut found = HashMap::with_capacity(keys.len());
        for key in keys {
            let page = key.0.page();
            let select = paged(invitations(scope), &order, true, page);
            let rows = select.all(&**source.tx().await?).await?;
            let rows = page.cut(rows.into_iter().map(Arc::new).collect());
            found.insert(key, rows);
        }
        Ok(found)
    }
}

/// How many those are; `None` for more than [`page::COUNTED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InvitationCount;

impl Relation for InvitationCount {
    type Value = Option<u64>;
    const ASKER: Asker = head_count;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let count = page::count(invitations(scope), &**source.tx().await?).await?;
        Ok(keys.into_iter().map(|key| (key, count)).collect())
    }
}

/// Who made an invitation: a member, or an administrator of the platform who is none, and of whom no more than the name is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InviterOf(pub UserId);

impl Relation for InviterOf {
    type Value = Arc<Member>;
    const ASKER: Asker = head_count;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let tx = source.tx().await?;
        let ids: Vec<UserId> = keys.iter().map(|key| key.0).collect();
        let outside = people::inviters(scope, tx, ids.clone()).await?;
        let member = |user: user::Model, membership| {
            let key = Self(user.id);
            (key, Arc::new(Member { user, membership }))
        };
        let nameless = |user: user::Model| user::Model {
            email: None,
            email_key: None,
            last_seen_at: None,
            ..user
        };
        let outside = outside.into_iter().map(|user| member(nameless(user), None));
        let mut found: HashMap<_, _> = outside.collect();
        let members = people::members(scope, &**tx, ids).await?;
        found.extend(
            members
                .into_iter()
                .map(|(membership, user)| member(user, Some(membership))),
        );
        Ok(found)
    }
}

/// A page of the API keys of all in the tenant, newest first: `created_at, id` is the order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Keys(pub Listing<()>);

impl Relation for Keys {
    type Value = Rows<Arc<api_key::Model>>;
    const ASKER: Asker = manager;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let order = [api_key::Column::CreatedAt, api_key::Column::Id];
        let mut found = HashMap::with_capacity(keys.len());
        for key in keys {
            let page = key.0.page();
            let select = paged(api_key::Entity::in_tenant(scope), &order, true, page);
            let rows = select.all(&**source.tx().await?).await?;
            let rows = page.cut(rows.into_iter().map(Arc::new).collect());
            found.insert(key, rows);
        }
        Ok(found)
    }
}

/// How many those are; `None` for more than [`page::COUNTED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyCount;

impl Relation for KeyCount {
    type Value = Option<u64>;
    const ASKER: Asker = manager;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let select = api_key::Entity::in_tenant(scope);
        let count = page::count(select, &**source.tx().await?).await?;
        Ok(keys.into_iter().map(|key| (key, count)).collect())
    }
}

/// The domains whose proven addresses may join the tenant, sorted. Whoever asks is known to be allowed to see its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AutoJoinDomains;

impl Relation for AutoJoinDomains {
    type Value = Arc<Vec<String>>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let rows = auto_join_domain::Entity::in_tenant(scope)
            .order_by_asc(auto_join_domain::Column::Domain)
            .all(&**source.tx().await?)
            .await?;
        let domains: Arc<Vec<String>> = Arc::new(rows.into_iter().map(|row| row.domain).collect());
        Ok(keys.into_iter().map(|key| (key, domains.clone())).collect())
    }
}

impl Reader {
    /// The tenants that the user belongs to, or all there are for an administrator of the platform: `slug, id` is the order.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn tenants(&self, page: Page) -> Result<Rows<tenant::Model>, LoadError> {
        self.run(|source| async move {
            let Some(scope) = source.scope() else {
                return Ok(page.cut(Vec::new()));
            };
            let rows = people::tenants_by_slug(scope, source.tx().await?, &page).await?;
            Ok(page.cut(rows))
        })
        .await
    }

    /// How many those are; `None` for more than [`page::COUNTED`].
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn count_tenants(&self) -> Result<Option<u64>, LoadError> {
        self.run(|source| async move {
            let Some(scope) = source.scope() else {
                return Ok(Some(0));
            };
            Ok(people::count_tenants(scope, source.tx().await?).await?)
        })
        .await
    }
}
