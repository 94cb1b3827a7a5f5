//! An operator's commands, beside a server that runs.

use std::time::Duration;

use adapters::{
    clock::Clock,
    sealing::{digest, equal},
};
use entities::{
    MembershipId, Permission, Role, TenantId, UserId, UserKind, membership, password_reset,
};

use super::*;
use crate::{
    RESET_PREFIX,
    testing::{House, SCOPE},
};

fn clock(house: &House) -> SharedClock {
    house.clock.clone()
}

async fn reset(
    house: &House,
    email: &str,
    tenant: Option<&str>,
) -> Result<IssuedReset, OperatorError> {
    reset_password(&house.db, &clock(house), email, tenant).await
}

async fn set(house: &House, email: &str, is: bool) -> Result<bool, OperatorError> {
    set_platform_administrator(&house.db, &clock(house), email, is).await
}

/// An account with a membership in `tenant`, where that is given.
async fn account(
    house: &House,
    email: &str,
    managed_by: Option<TenantId>,
    tenant: Option<TenantId>,
) -> UserId {
    let now = house.clock.now();
    let id = UserId(house.clock.uuid());
    let row = user::Model {
        id,
        kind: UserKind::Person,
        name: email.to_owned(),
        email: Some(email.to_owned()),
        email_key: Some(email_key(email)),
        password_hash: None,
        managed_tenant_id: managed_by,
        is_email_proven: false,
        created_by_key_id: None,
        is_active: true,
        is_platform_administrator: false,
        last_seen_at: None,
        created_at: now,
        updated_at: now,
    };
    let db = house.db.owner(SCOPE);
    user::Entity::add(db, row).await.unwrap();
    if let Some(tenant) = tenant {
        let row = membership::Model {
            id: MembershipId(house.clock.uuid()),
            tenant_id: tenant,
            user_id: id,
            role: Role::Member,
            is_active: true,
            last_used_at: None,
            last_seen_at: None,
            ended_at: None,
            created_at: now,
            updated_at: now,
        };
        membership::Entity::add(db, row).await.unwrap();
    }
    id
}

async fn resets(house: &House) -> Vec<password_reset::Model> {
    let rows = password_reset::Entity::anywhere(SCOPE);
    rows.all(house.db.reader(SCOPE)).await.unwrap()
}

#[tokio::test]
async fn a_token_is_issued_for_whom_it_is_meant() {
    let house = House::new().await;
    let told = reset(&house, "ada@example.com", None).await.unwrap_err();
    assert!(matches!(told, OperatorError::NotSetUp), "{told}");
    let owner = house.set_up().await.identity;
    let tenant = owner.tenant().id;
    // the same address again, managed; and one that is managed alone, and one that is nowhere
    let managed = account(&house, "ada@example.com", Some(tenant), Some(tenant)).await;
    account(&house, "kim@example.com", Some(tenant), Some(tenant)).await;
    account(&house, "out@example.com", None, None).await;

    let first = reset(&house, " ADA@example.com", None).await.unwrap();
    assert_eq!(
        (first.email.as_str(), first.tenant.as_str()),
        ("Ada@Example.com", "ada-s-looms")
    );
    let text = first.token.expose();
    assert_eq!(text.len(), RESET_PREFIX.len() + 43);
    assert!(text.starts_with("weft_pr_"));
    let row = resets(&house).await.remove(0);
    assert!(equal(&row.digest, &digest(text.as_bytes())));
    assert_eq!(
        (row.user_id, row.tenant_id),
        (owner.user().id, tenant),
        "the free one"
    );
    assert_eq!(row.expires_at - house.clock.now(), RESET_LASTS);
    assert_eq!(row.expires_at, first.expires_at);

    house.clock.advance(Duration::from_secs(60));
    let second = reset(&house, "ada@example.com", None).await.unwrap();
    let rows = resets(&house).await;
    assert_eq!(rows.len(), 1, "the one before is good no longer");
    assert!(equal(
        &rows[0].digest,
        &digest(second.token.expose().as_bytes())
    ));
    let of_tenant = reset(&house, "ada@example.com", Some("ada-s-looms"))
        .await
        .unwrap();
    let rows = resets(&house).await;
    let row = rows.iter().find(|row| row.user_id == managed).unwrap();
    assert!(equal(
        &row.digest,
        &digest(of_tenant.token.expose().as_bytes())
    ));
    assert_eq!(rows.len(), 2, "the other account's is left alone");

    for (email, slug, part) in [
        (
            "nobody@example.com",
            None,
            "no account has the e-mail address \"nobody@example.com\"",
        ),
        ("kim@example.com", None, "--tenant SLUG"),
        (
            "ada@example.com",
            Some("elsewhere"),
            "no tenant has the slug \"elsewhere\"",
        ),
        (
            "nobody@example.com",
            Some("ada-s-looms"),
            "the tenant \"ada-s-looms\" manages no account",
        ),
        ("out@example.com", None, "is a member of no tenant"),
        ("", None, "no account"),
    ] {
        let told = reset(&house, email, slug).await.unwrap_err().to_string();
        assert!(told.contains(part), "{email}: {told}");
    }
    user::Entity::change_anywhere(SCOPE)
        .col_expr(user::Column::IsActive, Expr::value(false))
        .filter(user::Column::Id.eq(managed))
        .exec(house.db.owner(SCOPE))
        .await
        .unwrap();
    let told = reset(&house, "ada@example.com", Some("ada-s-looms")).await;
    assert!(matches!(told, Err(OperatorError::Deactivated(_))));
    assert_eq!(resets(&house).await.len(), 2);
}

#[tokio::test]
async fn the_platform_always_has_an_administrator() {
    let house = House::new().await;
    let owner = house.set_up().await;
    let tenant = owner.identity.tenant().id;
    account(&house, "grace@example.com", None, Some(tenant)).await;
    account(&house, "kim@example.com", Some(tenant), Some(tenant)).await;

    let last = set(&house, "ada@example.com", false).await;
    assert!(matches!(last, Err(OperatorError::LastAdministrator(_))));
    assert!(!set(&house, "grace@example.com", false).await.unwrap());
    assert!(!set(&house, "ada@example.com", true).await.unwrap());
    let managed = set(&house, "kim@example.com", true).await.unwrap_err();
    assert!(
        managed
            .to_string()
            .contains("can't administer the platform"),
        "{managed}"
    );
    assert!(set(&house, "Grace@Example.com", true).await.unwrap());
    assert!(set(&house, "ada@example.com", false).await.unwrap());
    // what is remembered of him for two seconds is over
    house.clock.advance(Duration::from_secs(3));
    let identity = house.identify(owner.access_token.expose()).await.unwrap();
    assert!(!identity.scope().may(Permission::PlatformManage));

    // each of two removes the other
    assert!(set(&house, "ada@example.com", true).await.unwrap());
    for _ in 0..10 {
        let (one, other) = tokio::join!(
            set(&house, "ada@example.com", false),
            set(&house, "grace@example.com", false)
        );
        let (stays, goes) = match (&one, &other) {
            (Err(OperatorError::LastAdministrator(_)), Ok(true)) => ("ada", "grace"),
            (Ok(true), Err(OperatorError::LastAdministrator(_))) => ("grace", "ada"),
            both => panic!("{both:?}"),
        };
        assert!(
            !set(&house, &format!("{stays}@example.com"), true)
                .await
                .unwrap()
        );
        assert!(
            set(&house, &format!("{goes}@example.com"), true)
                .await
                .unwrap()
        );
    }

    // one who is deactivated is nobody to rely on
    user::Entity::change_anywhere(SCOPE)
        .col_expr(user::Column::IsActive, Expr::value(false))
        .filter(user::Column::EmailKey.eq("grace@example.com"))
        .exec(house.db.owner(SCOPE))
        .await
        .unwrap();
    let last = set(&house, "ada@example.com", false).await;
    assert!(matches!(last, Err(OperatorError::LastAdministrator(_))));
    assert!(set(&house, "grace@example.com", false).await.unwrap());
    let told = set(&house, "grace@example.com", true).await;
    assert!(matches!(told, Err(OperatorError::Deactivated(_))));
}
