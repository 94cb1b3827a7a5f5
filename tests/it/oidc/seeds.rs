//! Invitations and domains, seeded into the database from outside.

#![expect(clippy::unwrap_used, reason = "a test that can't go on ends")]

use chrono::{TimeDelta, Utc};
use entities::{
    GroupId, InvitationId, Role, SystemScope, auto_join_domain, group, group_member, identity,
    invitation, invitation_group, membership, query::*, sign_in_code, user,
};
use uuid::Uuid;

use crate::{neighbour::db, scene::Scene};

const SYSTEM: SystemScope = SystemScope::of("tests of sign-in at providers");

/// Tokens, and their SHA-256.
pub const FOR_ONE: (&str, &str) = (
    "an-invitation-for-one",
    "01b358e0da24a09eeb297ae9d7cef1c31b4936a9fd892ac96f0656cdaa180dca",
);
pub const FOR_ADA: (&str, &str) = (
    "an-invitation-for-ada",
    "ec426c489de609760784c78a7c4cb73247ca28621f5023249ec45f18c9f82a55",
);

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

impl Scene {
    /// An invitation of the owner's into his tenant and a new group there.
    pub async fn invites(&self, (_, digest): (&str, &str), email: Option<&str>, role: Role) {
        let db = db(self).await;
        let connection = db.owner(SYSTEM);
        let owner = membership::Entity::anywhere(SYSTEM)
            .filter(membership::Column::Role.eq(Role::Owner))
            .one(connection)
            .await
            .unwrap()
            .unwrap();
        let (id, group, now) = (
            InvitationId(Uuid::now_v7()),
            GroupId(Uuid::now_v7()),
            Utc::now(),
        );
        let row = group::Model {
            id: group,
            tenant_id: owner.tenant_id,
            parent_id: None,
            name: "Mill".into(),
            path: format!("mill-{}", group.0.simple()),
            description: String::new(),
            created_at: now,
            updated_at: now,
        };
        group::Entity::add(connection, row).await.unwrap();
        let row = invitation::Model {
            id,
            tenant_id: owner.tenant_id,
            digest: bytes(digest),
            email: email.map(str::to_owned),
            email_key: email.map(str::to_lowercase),
            role,
            uses: 1,
            uses_left: 1,
            failures: 0,
            invited_by: owner.user_id,
            by_platform: false,
            expires_at: now + TimeDelta::hours(1),
            revoked_at: None,
            created_at: now,
        };
        invitation::Entity::add(connection, row).await.unwrap();
        let row = invitation_group::Model {
            tenant_id: owner.tenant_id,
            invitation_id: id,
            group_id: group,
        };
        invitation_group::Entity::add(connection, row)
            .await
            .unwrap();
        db.close().await;
    }

    /// Who owns the tenant is no more than this from here on.
    pub async fn lowers_the_owner(&self, role: Role) {
        let db = db(self).await;
        membership::Entity::change_anywhere(SYSTEM)
            .set(membership::ActiveModel {
                role: Set(role),
                ..Default::default()
            })
            .filter(membership::Column::Role.eq(Role::Owner))
            .exec(db.owner(SYSTEM))
            .await
            .unwrap();
        db.close().await;
    }

    /// Who has a proven address of the domain may join the owner's tenant.
    pub async fn lets_join(&self, domain: &str) {
        let db = db(self).await;
        let connection = db.owner(SYSTEM);
        let owner = membership::Entity::anywhere(SYSTEM)
            .one(connection)
            .await
            .unwrap()
            .unwrap();
        let row = auto_join_domain::Model {
            domain: domain.into(),
            tenant_id: owner.tenant_id,
        };
        auto_join_domain::Entity::add(connection, row)
            .await
            .unwrap();
        db.close().await;
    }

    /// How many users, identities and members of groups there are.
    pub async fn heads(&self) -> (usize, usize, usize) {
        let db = db(self).await;
        let connection = db.owner(SYSTEM);
        let users = user::Entity::anywhere(SYSTEM)
            .all(connection)
            .await
            .unwrap();
        let identities = identity::Entity::anywhere(SYSTEM)
            .all(connection)
            .await
            .unwrap();
        let members = group_member::Entity::anywhere(SYSTEM)
            .all(connection)
            .await
            .unwrap();
        db.close().await;
        (users.len(), identities.len(), members.len())
    }

    /// All codes that wait to be redeemed have run out.
    pub async fn codes_run_out(&self) {
        let db = db(self).await;
        sign_in_code::Entity::change_anywhere(SYSTEM)
            .col_expr(
                sign_in_code::Column::ExpiresAt,
                Expr::value(Utc::now() - TimeDelta::seconds(1)),
            )
            .exec(db.owner(SYSTEM))
            .await
            .unwrap();
        db.close().await;
    }

    /// The account of this address is suspended in its tenant.
    pub async fn suspends(&self, email: &str) {
        let db = db(self).await;
        let connection = db.owner(SYSTEM);
        let user = user::Entity::anywhere(SYSTEM)
            .filter(user::Column::EmailKey.eq(email))
            .one(connection)
            .await
            .unwrap()
            .unwrap();
        membership::Entity::change_anywhere(SYSTEM)
            .set(membership::ActiveModel {
                is_active: Set(false),
                ..Default::default()
            })
            .filter(membership::Column::UserId.eq(user.id))
            .exec(connection)
            .await
            .unwrap();
        db.close().await;
    }
}
