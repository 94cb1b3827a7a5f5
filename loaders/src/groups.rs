//! Groups and their members, as whoever asks may see them: those that he is a member of, all with MEMBERS_MANAGE.

use std::{collections::HashMap, sync::Arc};

use entities::{
    GroupId, GroupMemberId, InvitationId, Permission, Scope, UserId, each, group, group_member,
    groups::Listed,
    invitation_group,
    page::{self, Rows, paged},
    query::*,
    user,
};

use crate::{
    Found, LoadError, Reader, Relation, Source,
    listing::{Listing, by_listing, dealt},
    matching::holding,
    reader::{lists_by, rows_by, values_by},
};

/// The order of lists of groups.
const BY_PATH: [group::Column; 2] = [group::Column::Path, group::Column::Id];

/// The group of this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupOf(pub GroupId);

impl Relation for GroupOf {
    type Value = Arc<group::Model>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let rows = group::Entity::seen(scope)
            .filter(group::Column::Id.is_in(keys.iter().map(|key| key.0)))
            .all(&**source.tx().await?)
            .await?;
        Ok(rows_by(rows, |row| Self(row.id)))
    }
}

/// A page of the groups of the tenant that is asked in: `path, id` is the order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Groups(pub Listing<()>);

impl Relation for Groups {
    type Value = Rows<Arc<group::Model>>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let mut found = HashMap::with_capacity(keys.len());
        for key in keys {
            let page = key.0.page();
            let select = paged(group::Entity::seen(scope), &BY_PATH, false, page);
            let rows = select.all(&**source.tx().await?).await?;
            let rows = page.cut(rows.into_iter().map(Arc::new).collect());
            found.insert(key, rows);
        }
        Ok(found)
    }
}

/// How many those are; `None` for more than [`page::COUNTED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupCount;

impl Relation for GroupCount {
    type Value = Option<u64>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let count = page::count(group::Entity::seen(scope), &**source.tx().await?).await?;
        Ok(keys.into_iter().map(|key| (key, count)).collect())
    }
}

/// A page of the groups right within a group: `path, id` is the order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChildrenOf {
    /// The group.
    pub group: GroupId,
    /// Which page.
    pub listing: Listing<()>,
}

impl Relation for ChildrenOf {
    type Value = Rows<Arc<group::Model>>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let mut found = HashMap::with_capacity(keys.len());
        for (listing, keys) in by_listing(keys, |key| &key.listing) {
            let (page, tx) = (listing.page(), &**source.tx().await?);
            let select = group::Entity::seen(scope)
                .filter(group::Column::ParentId.is_in(keys.iter().map(|key| key.group)));
            let of = group::Column::ParentId;
            let rows = each::pages(select, keys.len(), of, &BY_PATH, false, page, tx).await?;
            found.extend(dealt(page, keys, rows, |row| {
                Some(Self {
                    group: row.parent_id?,
                    listing: listing.clone(),
                })
            }));
        }
        Ok(found)
    }
}

/// How many those are, if there are any; `None` for more than [`page::COUNTED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChildCountOf(pub GroupId);

impl Relation for ChildCountOf {
    type Value = Option<u64>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let select = group::Entity::seen(scope)
            .filter(group::Column::ParentId.is_in(keys.iter().map(|key| key.0)));
        let counts = each::counts(select, group::Column::ParentId, &**source.tx().await?).await?;
        Ok(values_by(counts, Self))
    }
}

/// Which members of a group: with an address that holds the text only where whoever asks may see addresses.
async fn narrowed(
    scope: &Scope,
    source: &Source,
    query: Option<&String>,
) -> Result<Condition, LoadError> {
    let Some(text) = query else {
        return Ok(Condition::all());
    };
    let columns = [user::Column::Name, user::Column::Email];
    let shown = if scope.may(Permission::MembersManage) {
        2
    } else {
        1
    };
    Ok(holding(
        source.tx().await?.backend(),
        &columns[..shown],
        text,
    ))
}

/// A page of the members of a group that whoever asks was shown, of those whose name holds a text: `name, id` is the order.
/// Members of a group around it are among them, and who is one of several is there several times.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupMembersOf {
    /// The group.
    pub group: GroupId,
    /// Which page, and the text.
    pub listing: Listing<Option<String>>,
}

impl Relation for GroupMembersOf {
    type Value = Rows<Arc<Listed>>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let mut found = HashMap::with_capacity(keys.len());
        for (listing, keys) in by_listing(keys, |key| &key.listing) {
            let condition = narrowed(scope, source, listing.filter().as_ref()).await?;
            let groups = keys.iter().map(|key| key.group).collect();
            let (page, tx) = (listing.page(), &**source.tx().await?);
            let rows = group_member::Entity::listed(scope, tx, groups, condition, page).await?;
            found.extend(dealt(page, keys, rows, |row| {
                Some(Self {
                    group: row.of,
                    listing: listing.clone(),
                })
            }));
        }
        Ok(found)
    }
}

/// How many those are, if there are any; `None` for more than [`page::COUNTED`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupMemberCountOf {
    /// The group.
    pub group: GroupId,
    /// What the name holds.
    pub query: Option<String>,
}

impl Relation for GroupMemberCountOf {
    type Value = Option<u64>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let mut by_query: HashMap<Option<String>, Vec<GroupId>> = HashMap::new();
        for Self { group, query } in keys {
            by_query.entry(query).or_default().push(group);
        }
        let mut found = HashMap::new();
        // A document has a few texts at most.
        for (query, groups) in by_query {
            let condition = narrowed(scope, source, query.as_ref()).await?;
            let tx = &**source.tx().await?;
            let counts = group_member::Entity::count_listed(scope, tx, groups, condition).await?;
            found.extend(values_by(counts, |group| Self {
                group,
                query: query.clone(),
            }));
        }
        Ok(found)
    }
}

/// What makes a user a member of a group, by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupMemberOf(pub GroupMemberId);

impl Relation for GroupMemberOf {
    type Value = Arc<group_member::Model>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let rows = group_member::Entity::seen(scope)
            .filter(group_member::Column::Id.is_in(keys.iter().map(|key| key.0)))
            .all(&**source.tx().await?)
            .await?;
        Ok(rows_by(rows, |row| Self(row.id)))
    }
}

/// Those of these groups that whoever asks sees, by path.
async fn seen_of(
    scope: &Scope,
    source: &Source,
    groups: impl Iterator<Item = GroupId>,
) -> Result<Vec<Arc<group::Model>>, LoadError> {
    let mut rows = group::Entity::seen(scope)
        .filter(group::Column::Id.is_in(groups))
        .all(&**source.tx().await?)
        .await?;
    rows.sort_by(|a, b| (&a.path, a.id).cmp(&(&b.path, b.id)));
    Ok(rows.into_iter().map(Arc::new).collect())
}

/// The groups that a user of the tenant was made a member of himself, by path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupsOfUser(pub UserId);

impl Relation for GroupsOfUser {
    type Value = Arc<Vec<Arc<group::Model>>>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let members = group_member::Entity::in_tenant(scope)
            .filter(group_member::Column::UserId.is_in(keys.iter().map(|key| key.0)))
            .all(&**source.tx().await?)
            .await?;
        if members.is_empty() {
            return Ok(HashMap::new());
        }
        let groups = seen_of(scope, source, members.iter().map(|row| row.group_id)).await?;
        let pairs = groups.iter().flat_map(|group| {
            let of = members.iter().filter(|row| row.group_id == group.id);
            of.map(|row| (Self(row.user_id), group.clone()))
        });
        Ok(lists_by(pairs))
    }
}

/// The groups that an invitation which whoever asks was shown leads into, by path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupsOfInvitation(pub InvitationId);

impl Relation for GroupsOfInvitation {
    type Value = Arc<Vec<Arc<group::Model>>>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let into = invitation_group::Entity::in_tenant(scope)
            .filter(invitation_group::Column::InvitationId.is_in(keys.iter().map(|key| key.0)))
            .all(&**source.tx().await?)
            .await?;
        if into.is_empty() {
            return Ok(HashMap::new());
        }
        let groups = seen_of(scope, source, into.iter().map(|row| row.group_id)).await?;
        let pairs = groups.iter().flat_map(|group| {
            let of = into.iter().filter(|row| row.group_id == group.id);
            of.map(|row| (Self(row.invitation_id), group.clone()))
        });
        Ok(lists_by(pairs))
    }
}

impl Reader {
    /// The group at this path.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn group_by_path(
        &self,
        path: String,
    ) -> Result<Option<Arc<group::Model>>, LoadError> {
        self.run(|source| async move {
            let Some(scope) = source.scope() else {
                return Ok(None);
            };
            let select = group::Entity::seen(scope).filter(group::Column::Path.eq(path));
            let row = select.one(&**source.tx().await?).await?;
            Ok(row.map(Arc::new))
        })
        .await
    }
}
