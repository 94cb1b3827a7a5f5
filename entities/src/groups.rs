//! Which groups somebody sees, and who is a member of one: who was made one of it, or of a group around it.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, FromQueryResult, QueryFilter, QuerySelect, QueryTrait,
    Select,
    sea_query::{
        Alias, Asterisk, Condition, Expr, ExprTrait, Func, IntoColumnRef, Order, Query,
        SelectStatement, WindowStatement,
    },
};

use crate::{
    GroupId, Permission, Role, Scope, each, group, group_ancestor, group_member, membership,
    page::{Page, paged_by},
    sharing::{own_groups, within},
    user,
};

/// The group whose list a row stands in.
const OF: &str = "of_group";
/// The name of the member.
const NAME: &str = "user_name";
/// Where it stands in its list.
const PLACE: &str = "place";

fn same(left: impl IntoColumnRef, right: impl IntoColumnRef) -> Expr {
    Expr::col(left).equals(right)
}

impl group::Entity {
    /// The groups that the scope sees: those that its user is a member of, or all of the tenant with MEMBERS_MANAGE.
    #[must_use]
    pub fn seen(scope: &Scope) -> Select<Self> {
        let all = Self::in_tenant(scope);
        if scope.may(Permission::MembersManage) {
            return all;
        }
        all.filter(group::Column::Id.in_subquery(within(scope, own_groups(scope, Role::Member))))
    }
}

/// The groups that stand around one of these, these included.
fn around(scope: &Scope, groups: Vec<GroupId>) -> SelectStatement {
    group_ancestor::Entity::in_tenant(scope)
        .filter(group_ancestor::Column::GroupId.is_in(groups))
        .select_only()
        .column(group_ancestor::Column::AncestorId)
        .into_query()
}

/// That somebody is a member of a group, by itself or by one around it.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// What makes him one.
    pub member: group_member::Model,
    /// The group that he is a member of.
    pub of: GroupId,
    /// His name.
    pub name: String,
}

impl group_member::Entity {
    /// What makes people members of groups that the scope sees, be it by a group around it.
    #[must_use]
    pub fn seen(scope: &Scope) -> Select<Self> {
        let all = Self::in_tenant(scope);
        if scope.may(Permission::MembersManage) {
            return all;
        }
        let own = own_groups(scope, Role::Member);
        let either = Condition::any()
            .add(group_member::Column::GroupId.in_subquery(within(scope, own.clone())))
            .add(group_member::Column::GroupId.in_subquery(around(scope, own)));
        all.filter(either)
    }

    /// What makes people members of these groups, once for each of these groups. Who left the tenant is none any more.
    fn of_groups(scope: &Scope, groups: Vec<GroupId>, narrowed: Condition) -> Select<Self> {
        let mut select = Self::in_tenant(scope)
            .filter(group_ancestor::Column::TenantId.eq(scope.tenant()))
            .filter(group_ancestor::Column::GroupId.is_in(groups))
            .filter(membership::Column::TenantId.eq(scope.tenant()))
            .filter(membership::Column::EndedAt.is_null())
            .filter(narrowed);
        let user_id = (group_member::Entity, group_member::Column::UserId);
        QueryTrait::query(&mut select)
            .inner_join(
                group_ancestor::Entity,
                same(
                    (group_ancestor::Entity, group_ancestor::Column::AncestorId),
                    (group_member::Entity, group_member::Column::GroupId),
                ),
            )
            .inner_join(
                membership::Entity,
                same((membership::Entity, membership::Column::UserId), user_id),
            )
            .inner_join(
                user::Entity,
                same((user::Entity, user::Column::Id), user_id),
            );
        select
    }

    /// The members on `page` of each of these groups, by name and id. `narrowed` is about columns of users. As they come, those
    /// of one group are in the order that [`Page::cut`] takes.
    ///
    /// # Errors
    /// What the database says.
    pub async fn listed(
        scope: &Scope,
        db: &impl ConnectionTrait,
        groups: Vec<GroupId>,
        narrowed: Condition,
        page: &Page,
    ) -> Result<Vec<Listed>, DbErr> {
        let (name, id) = (
            (user::Entity, user::Column::Name),
            (group_member::Entity, group_member::Column::Id),
        );
        let of = (group_ancestor::Entity, group_ancestor::Column::GroupId);
        let mut window = WindowStatement::partition_by(of);
        window.order_by(name, page.order(false));
        window.order_by(id, page.order(false));
        let order = [Expr::col(name), Expr::col(id)];
        let select = Self::of_groups(scope, groups, narrowed);
        let mut rows = paged_by(select, &order, false, page).into_query();
        rows.clear_order_by().reset_limit();
        rows.expr_as(Expr::col(of), OF)
            .expr_as(Expr::col(name), NAME)
            .expr_window_as(Func::cust("row_number"), window, PLACE);
        let last = i64::try_from(page.limit + 1).unwrap_or(i64::MAX);
        let listed = Query::select()
            .column(Asterisk)
            .from_subquery(rows, Alias::new("listed"))
            .and_where(Expr::col(PLACE).lte(last))
            .order_by(PLACE, Order::Asc)
            .to_owned();
        let rows = db.query_all(&listed).await?;
        let read = |row| {
            Ok(Listed {
                member: group_member::Model::from_query_result(row, "")?,
                of: row.try_get("", OF)?,
                name: row.try_get("", NAME)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// How many members each of these groups has that has any; `None` for more than [`crate::page::COUNTED`].
    ///
    /// # Errors
    /// What the database says.
    pub async fn count_listed(
        scope: &Scope,
        db: &impl ConnectionTrait,
        groups: Vec<GroupId>,
        narrowed: Condition,
    ) -> Result<HashMap<GroupId, Option<u64>>, DbErr> {
        let select = Self::of_groups(scope, groups, narrowed);
        each::counts(select, group_ancestor::Column::GroupId, db).await
    }
}
