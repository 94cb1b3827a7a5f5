//! People beside the owner, seeded into the database from outside: there is no way to make them over the wire yet.

#![expect(clippy::unwrap_used, reason = "a test that can't go on ends")]

use chrono::Utc;
use entities::{
    ApiKeyId, Db, MembershipId, Permissions, Role, SystemScope, TenantId, UserId, api_key,
    db::Location, membership, query::*, tenant, user,
};
use support::client::{Client, OWNER_EMAIL, OWNER_PASSWORD};
use uuid::Uuid;

use crate::scene::Scene;

const SYSTEM: SystemScope = SystemScope::of("tests");

/// The server's database, past the server.
pub async fn db(scene: &Scene) -> Db {
    let location = match scene.weft.database() {
        Some(database) => Location::Postgres(database.url().to_owned()),
        None => Location::Sqlite(scene.weft.data().join("weft.db")),
    };
    Db::connect(&location).await.expect("the server's database")
}

/// A person with the owner's password, in the owner's tenant or in one of his own.
async fn person(scene: &Scene, email: &str, role: Role, own_tenant: bool) -> Client {
    let db = db(scene).await;
    let connection = db.system(SYSTEM);
    let owner = user::Entity::anywhere(SYSTEM)
        .filter(user::Column::Email.eq(OWNER_EMAIL))
        .one(connection)
        .await
        .unwrap()
        .unwrap();
    let first = tenant::Entity::anywhere(SYSTEM)
        .one(connection)
        .await
        .unwrap()
        .unwrap();
    let now = Utc::now();
    let id = UserId(Uuid::now_v7());
    let tenant_id = if own_tenant {
        TenantId(Uuid::now_v7())
    } else {
        first.id
    };
    if own_tenant {
        let row = tenant::Model {
            id: tenant_id,
            slug: format!("t{}", tenant_id.0.simple()),
            name: "Neighbours".into(),
            default_model_id: None,
            ..first
        };
        tenant::Entity::add(connection, row).await.unwrap();
    }
    let row = user::Model {
        id,
        name: "Somebody".into(),
        email: Some(email.into()),
        email_key: Some(email.into()),
        is_platform_administrator: false,
        managed_tenant_id: None,
        ..owner
    };
    user::Entity::add(connection, row).await.unwrap();
    let row = membership::Model {
        id: MembershipId(Uuid::now_v7()),
        tenant_id,
        user_id: id,
        role,
        is_active: true,
        last_used_at: None,
        last_seen_at: None,
        ended_at: None,
        created_at: now,
        updated_at: now,
    };
    membership::Entity::add(connection, row).await.unwrap();
    db.close().await;
    let mut client = scene.weft.client();
    client.sign_in(email, OWNER_PASSWORD).await;
    client
}

impl Scene {
    /// The owner of another tenant.
    pub async fn stranger(&self) -> Client {
        person(self, "stranger@example.test", Role::Owner, true).await
    }

    /// Somebody of the same tenant with this role.
    pub async fn colleague(&self, role: Role) -> Client {
        person(
            self,
            &format!("{role:?}@example.test").to_lowercase(),
            role,
            false,
        )
        .await
    }

    /// A key may do no more than this from here on, and whoever has it is no more than this: there is no way to say so over the
    /// wire yet.
    pub async fn lower(&self, key: &str, permissions: Permissions, role: Role) {
        let db = db(self).await;
        let connection = db.system(SYSTEM);
        let id: ApiKeyId = key.parse().expect("the id of a key");
        let key = api_key::Entity::anywhere(SYSTEM)
            .filter(api_key::Column::Id.eq(id))
            .one(connection)
            .await
            .unwrap()
            .unwrap();
        api_key::Entity::change_anywhere(SYSTEM)
            .set(api_key::ActiveModel {
                permissions: Set(permissions),
                ..Default::default()
            })
            .filter(api_key::Column::Id.eq(id))
            .exec(connection)
            .await
            .unwrap();
        membership::Entity::change_anywhere(SYSTEM)
            .set(membership::ActiveModel {
                role: Set(role),
                ..Default::default()
            })
            .filter(membership::Column::UserId.eq(key.user_id))
            .exec(connection)
            .await
            .unwrap();
        db.close().await;
    }
}
