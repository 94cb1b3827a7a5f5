//! Groups and who is a member of one.

use std::sync::Arc;

use async_graphql::{Context, ID, Object, Result};
use entities::{Refusal, group, group_member, page::Page};
use loaders::{
    groups::{ChildCountOf, ChildrenOf, GroupMemberCountOf, GroupMembersOf, GroupOf},
    identity::MemberOf,
    listing::Listing,
};
use uuid::Uuid;

use crate::{
    asking::ContextExt,
    connection::{Connection, Paging},
    identity::{Role, User},
    model::query_text,
    scalars::{Cursor, DateTime},
};

/// Names of the lists in their cursors.
pub(crate) const GROUPS: &str = "groups";
const MEMBERS: &str = "group.members";

/// A place in a list of groups, or of members of one.
pub(crate) type Named = (String, Uuid);

/// A group of people of the tenant, which may stand within another. Its members are those who were made members of it, and all
/// members of the groups around it.
#[derive(Clone)]
pub struct Group(pub Arc<group::Model>);

/// A page of groups by path.
pub(crate) fn connection(rows: entities::page::Rows<Arc<group::Model>>) -> Connection<Group> {
    let place = |row: &Arc<group::Model>| (row.path.clone(), row.id.0);
    Connection::new(GROUPS, rows, place, Group)
}

/// A group of people of the tenant, which may stand within another. Its members are those who were made members of it, and all
/// members of the groups around it.
#[Object]
impl Group {
    /// Its id.
    pub async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// The names from the outermost group on, with slashes between. Unique in the tenant.
    async fn path(&self) -> &str {
        &self.0.path
    }

    /// Name shown to people, unique among the groups that stand right within one; holds no slash.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What it is for; empty where nobody said.
    async fn description(&self) -> &str {
        &self.0.description
    }

    /// The group that it stands in; null for an outermost one, and for one that the viewer may not see.
    async fn parent(&self, ctx: &Context<'_>) -> Result<Option<Group>> {
        let Some(id) = self.0.parent_id else {
            return Ok(None);
        };
        Ok(ctx.reader().load(GroupOf(id)).await?.map(Group))
    }

    /// The groups that stand right within it, by path.
    async fn children(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "How many at most, from the beginning of the list or from `after` on: 20 where neither this nor `last` is \
                    given. From 0 to `ServiceLimits.maxPageSize`, which is 100 unless set otherwise."
        )]
        first: Option<i32>,
        #[graphql(
            desc = "Only what stands after this place: a cursor of this list in this order, such as the `endCursor` of the \
                    page before."
        )]
        after: Option<Cursor>,
        #[graphql(
            desc = "How many at most, from the end of the list or from `before` back; they come in the list's order all the \
                    same. As many as `first` may be, and not together with it."
        )]
        last: Option<i32>,
        #[graphql(
            desc = "Only what stands before this place: a cursor of this list in this order, such as the `startCursor` of the \
                    page after."
        )]
        before: Option<Cursor>,
    ) -> Result<Connection<Group>> {
        let page = Paging {
            first,
            after,
            last,
            before,
        }
        .read::<Named>(ctx, GROUPS)?;
        let group = self.0.id;
        let listing = Listing::new(page, ());
        let Some(rows) = ctx.reader().load(ChildrenOf { group, listing }).await? else {
            return Ok(Connection::empty());
        };
        let reader = ctx.reader().clone();
        Ok(connection(rows).counted(move || {
            let reader = reader.clone();
            async move { Ok(reader.load(ChildCountOf(group)).await?.unwrap_or(Some(0))) }
        }))
    }

    /// Its members by name, with those of the groups around it. Who was made a member of several of these is there several times,
    /// each time as what he is by that one.
    async fn members(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "How many at most, from the beginning of the list or from `after` on: 20 where neither this nor `last` is \
                    given. From 0 to `ServiceLimits.maxPageSize`, which is 100 unless set otherwise."
        )]
        first: Option<i32>,
        #[graphql(
            desc = "Only what stands after this place: a cursor of this list in this order, such as the `endCursor` of the \
                    page before."
        )]
        after: Option<Cursor>,
        #[graphql(
            desc = "How many at most, from the end of the list or from `before` back; they come in the list's order all the \
                    same. As many as `first` may be, and not together with it."
        )]
        last: Option<i32>,
        #[graphql(
            desc = "Only what stands before this place: a cursor of this list in this order, such as the `startCursor` of the \
                    page after."
        )]
        before: Option<Cursor>,
        #[graphql(
            desc = "A text that the name holds, whatever the case, or, for those who manage members, the e-mail address; 200 \
                    characters at most."
        )]
        query: Option<String>,
    ) -> Result<Option<Connection<GroupMember>>> {
        let page = Paging {
            first,
            after,
            last,
            before,
        }
        .read::<Named>(ctx, MEMBERS)?;
        let query = query_text(&["query"], query)?;
        let group = self.0.id;
        let listing = Listing::new(page, query.clone());
        let found = ctx.reader().load(GroupMembersOf { group, listing }).await?;
        let rows = found.unwrap_or_else(|| Page::default().cut(Vec::new()));
        let members = Connection::new(
            MEMBERS,
            rows,
            |row| (row.name.clone(), row.member.id.0),
            |row| GroupMember {
                inherited: row.of != row.member.group_id,
                row: Arc::new(row.member.clone()),
            },
        );
        let reader = ctx.reader().clone();
        Ok(Some(members.counted(move || {
            let (reader, query) = (reader.clone(), query.clone());
            async move {
                let count = reader.load(GroupMemberCountOf { group, query }).await?;
                Ok(count.unwrap_or(Some(0)))
            }
        })))
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime {
        self.0.created_at.into()
    }
}

/// That a user was made a member of a group, and so is one of all groups within it.
#[derive(Clone)]
pub struct GroupMember {
    row: Arc<group_member::Model>,
    inherited: bool,
}

impl From<Arc<group_member::Model>> for GroupMember {
    fn from(row: Arc<group_member::Model>) -> Self {
        Self {
            row,
            inherited: false,
        }
    }
}

/// That a user was made a member of a group, and so is one of all groups within it.
#[Object]
impl GroupMember {
    /// Its id: the same in the list of the group that the user was made a member of and in those of the groups within that.
    pub async fn id(&self) -> ID {
        self.row.id.into()
    }

    /// Who it is.
    async fn user(&self, ctx: &Context<'_>) -> Result<User> {
        let id = self.row.user_id;
        let member = ctx.reader().load(MemberOf(id)).await?;
        Ok(User(member.ok_or_else(|| Refusal::not_found(&[], id))?))
    }

    /// What the user is in the group: an EDITOR changes what lives there, an ADMIN or OWNER shares and deletes it, too.
    async fn role(&self) -> Role {
        self.row.role.into()
    }

    /// Whether it was a group around the one that it is listed for which the user was made a member of; false where it was found
    /// by its id.
    async fn inherited(&self) -> bool {
        self.inherited
    }
}
