//! People beside the owner: they come by invitation, as anybody does.

#![expect(clippy::unwrap_used, reason = "a test that can't go on ends")]

use chrono::Utc;
use entities::{
    ApiKeyId, Db, IdentityId, Permissions, Role, SystemScope, api_key, db::Location, identity,
    membership, query::*, user,
};
use serde_json::json;
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

/// Somebody with the owner's password who accepts an invitation that `inviter` makes.
pub async fn invited(scene: &Scene, inviter: &Client, email: &str, role: Role) -> Client {
    let role = format!("{role:?}").to_uppercase();
    let document = format!(
        "mutation {{ createInvitation(input: {{ role: {role} }}) {{ token errors {{ code message }} }} }}"
    );
    let made = inviter.done(&document, json!({})).await;
    let document = "mutation ($token: String!, $email: String!, $password: String!) {
        acceptInvitation(input: { token: $token, email: $email, name: \"Somebody\", password: $password }) {
            accessToken errors { code message }
        }
    }";
    let given = json!({ "token": made["token"], "email": email, "password": OWNER_PASSWORD });
    let accepted = scene.weft.client().done(document, given).await;
    inviter
        .with_token(accepted["accessToken"].as_str())
        .in_tenant(None)
}

impl Scene {
    /// The owner of another tenant.
    pub async fn stranger(&self) -> Client {
        let document = "mutation { createTenant(input: { slug: \"neighbours\", name: \"Neighbours\" }) { tenant { id } errors { code message } } }";
        self.client.done(document, json!({})).await;
        let inviter = self.client.in_tenant(Some("neighbours"));
        invited(self, &inviter, "stranger@example.test", Role::Owner).await
    }

    /// Somebody of the same tenant with this role.
    pub async fn colleague(&self, role: Role) -> Client {
        let email = format!("another-{role:?}@example.test").to_lowercase();
        invited(self, &self.client, &email, role).await
    }

    /// An identity of the owner's at a provider that nobody asks; its id.
    pub async fn identity(&self, subject: &str) -> String {
        self.identity_of(OWNER_EMAIL, subject).await
    }

    /// The same of whoever has this address.
    pub async fn identity_of(&self, email: &str, subject: &str) -> String {
        let db = db(self).await;
        let connection = db.owner(SYSTEM);
        let owner = user::Entity::anywhere(SYSTEM)
            .filter(user::Column::Email.eq(email))
            .one(connection)
            .await
            .unwrap()
            .unwrap();
        let row = identity::Model {
            id: IdentityId(Uuid::now_v7()),
            user_id: owner.id,
            issuer: "https://nobody.example.test".into(),
            subject: subject.into(),
            linked_at: Utc::now(),
        };
        let id = row.id.to_string();
        identity::Entity::add(connection, row).await.unwrap();
        db.close().await;
        id
    }

    /// A key may do no more than this from here on, and whoever has it is no more than this: a key's rights change over no wire.
    pub async fn lower(&self, key: &str, permissions: Permissions, role: Role) {
        let db = db(self).await;
        let connection = db.owner(SYSTEM);
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
