use std::time::Duration;

use adapters::clock::Clock;
use entities::{MembershipId, TenantId, sign_in_failure, tenant, user};
use futures_util::future::join_all;

use super::*;
use crate::testing::{House, SCOPE, at_the_machine};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

fn is_wrong(answer: &Result<SignedIn, CommandError>) -> bool {
    matches!(
        answer,
        Err(CommandError::Unauthenticated(
            "the refresh token is not valid, or no longer"
        ))
    )
}

impl House {
    async fn row(&self, signed_in: &SignedIn) -> session::Model {
        session::Entity::anywhere(SCOPE)
            .filter(session::Column::Id.eq(signed_in.identity.session().unwrap()))
            .one(self.db.reader(SCOPE))
            .await
            .unwrap()
            .unwrap()
    }

    async fn refresh_into(&self, token: &Secret, slug: &str) -> Result<SignedIn, CommandError> {
        let given = Refresh {
            refresh_token: token.clone(),
            tenant: Some(slug.into()),
        };
        self.auth.refresh_session(given, at_the_machine()).await
    }

    /// What its refresh token is exchanged for.
    async fn next(&self, pair: &SignedIn) -> SignedIn {
        self.refresh(&pair.refresh_token).await.unwrap()
    }

    /// Whether its refresh token is none, or none any more.
    async fn refuses(&self, pair: &SignedIn) -> bool {
        is_wrong(&self.refresh(&pair.refresh_token).await)
    }

    /// Whether its access token is one.
    async fn knows(&self, pair: &SignedIn) -> bool {
        self.identify(pair.access_token.expose()).await.is_ok()
    }

    /// An access token of this pair is presented, and that is written down.
    async fn use_of(&self, pair: &SignedIn) {
        self.identify(pair.access_token.expose()).await.unwrap();
        self.auth.look(false).await.unwrap();
    }

    /// Another tenant, with the owner as a member of it.
    async fn another_tenant(&self, first: &SignedIn) -> membership::Model {
        let other = TenantId(uuid::Uuid::from_u128(1));
        let db = self.db.owner(SCOPE);
        let row = tenant::Model {
            id: other,
            slug: "other".into(),
            ..first.identity.tenant().clone()
        };
        tenant::Entity::add(db, row).await.unwrap();
        let there = membership::Model {
            id: MembershipId(uuid::Uuid::from_u128(2)),
            tenant_id: other,
            ..first.identity.membership().unwrap().clone()
        };
        membership::Entity::add(db, there.clone()).await.unwrap();
        there
    }
}

/// A house, and the first pair of its owner.
async fn signed_in() -> (House, SignedIn) {
    let house = House::new().await;
    let first = house.set_up().await;
    (house, first)
}

#[tokio::test]
async fn each_use_gives_another_pair_of_the_same_session() {
    let (house, first) = signed_in().await;
    house.clock.advance(Duration::from_secs(3_000));
    let second = house.next(&first).await;
    assert_eq!(second.identity.session(), first.identity.session());
    assert_ne!(second.refresh_token, first.refresh_token);
    assert_eq!(
        second.expires_at,
        house.clock.now() + tokens::ACCESS_TOKEN_LASTS
    );
    let row = house.row(&second).await;
    assert_eq!(
        (row.rotation, row.used_rotation, row.rotated_at),
        (1, 0, Some(house.clock.now()))
    );
    assert_eq!(row.expires_at, house.clock.now() + SESSION_IDLE);
    assert_eq!(row.ends_at, house.row(&first).await.ends_at);
    // an access token of before stays good until it runs out
    assert!(house.knows(&first).await);
    house.clock.advance(Duration::from_secs(700));
    assert!(!house.knows(&first).await);
    assert!(house.knows(&second).await);
    let third = house.next(&second).await;
    assert_eq!(house.row(&third).await.rotation, 2);
}

#[tokio::test]
async fn fifty_at_once_get_one_pair() {
    let (house, first) = signed_in().await;
    let replica = house.replica();
    let at_once = (0..50).map(|n| {
        let authority = if n % 2 == 0 { &house.auth } else { &replica };
        let given = Refresh {
            refresh_token: first.refresh_token.clone(),
            tenant: None,
        };
        authority.refresh_session(given, at_the_machine())
    });
    let pairs: Vec<_> = join_all(at_once)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(
        pairs
            .iter()
            .all(|pair| pair.refresh_token == pairs[0].refresh_token)
    );
    assert_eq!(house.row(&first).await.rotation, 1);
    for pair in &pairs {
        assert!(house.knows(pair).await);
    }
    house.next(&pairs[7]).await;
}

#[tokio::test]
async fn two_tabs_within_half_a_minute_stay_signed_in() {
    let (house, first) = signed_in().await;
    let one = house.next(&first).await;
    house.use_of(&one).await;
    house.clock.advance(30 * SECOND);
    let other = house.next(&first).await;
    assert_eq!(one.refresh_token, other.refresh_token);
    assert!(house.knows(&one).await);
    assert!(house.knows(&other).await);
}

#[tokio::test]
async fn after_half_a_minute_a_pair_in_use_is_not_given_twice() {
    let (house, first) = signed_in().await;
    let second = house.next(&first).await;
    house.use_of(&second).await;
    assert_eq!(house.row(&second).await.used_rotation, 1);
    house.clock.advance(31 * SECOND);
    assert!(house.refuses(&first).await);
    // for whoever of the two was the thief, and for the other one
    assert!(house.row(&second).await.ended_at.is_some());
    assert!(!house.knows(&second).await);
    assert!(house.refuses(&second).await);
}

#[tokio::test]
async fn a_lost_answer_is_answered_again_however_late() {
    let (house, first) = signed_in().await;
    let lost = house.next(&first).await;
    house.clock.advance(5 * DAY);
    let again = house.next(&first).await;
    assert_eq!(lost.refresh_token, again.refresh_token);
    assert!(house.knows(&again).await);
    // presenting its refresh token is a use as well
    house.next(&again).await;
    assert!(house.refuses(&first).await);
    assert!(house.row(&first).await.ended_at.is_some());
}

#[tokio::test]
async fn the_token_before_the_last_ends_the_session_at_once() {
    let (house, first) = signed_in().await;
    let replica = house.replica();
    let second = house.next(&first).await;
    let third = house.next(&second).await;
    let here = house.identify(third.access_token.expose()).await.unwrap();
    let (ended, elsewhere) = (house.auth.ended(&here), replica.ended(&here));
    assert!(house.refuses(&first).await);
    ended.await;
    replica.look(false).await.unwrap();
    elsewhere.await;
    assert!(!house.knows(&third).await);
    assert!(house.refuses(&third).await);
}

#[tokio::test]
async fn what_is_used_is_written_down_once() {
    let (house, first) = signed_in().await;
    let second = house.next(&first).await;
    // an older one says nothing of the newer pair
    house.use_of(&first).await;
    assert_eq!(house.row(&first).await.used_rotation, 0);
    house.use_of(&second).await;
    assert_eq!(house.row(&first).await.used_rotation, 1);
    // noted before the next pair was issued, written after: that one is not in use
    let third = house.next(&second).await;
    house
        .auth
        .0
        .watched
        .seen
        .note_used(first.identity.session().unwrap(), 1);
    house.auth.look(false).await.unwrap();
    assert_eq!(house.row(&third).await.used_rotation, 1);
}

#[tokio::test]
async fn thirty_days_idle_or_ninety_in_all() {
    let (house, mut pair) = signed_in().await;
    let idle = house.sign_in().await;
    for _ in 0..3 {
        house.clock.advance(29 * DAY);
        pair = house.next(&pair).await;
    }
    assert!(house.refuses(&idle).await);
    // the 87th day: idle time ends with the session
    let row = house.row(&pair).await;
    assert_eq!(row.expires_at, row.ends_at);
    house.clock.advance(3 * DAY - Duration::from_secs(60));
    pair = house.next(&pair).await;
    assert_eq!(pair.expires_at, row.ends_at, "so does the access token");
    assert_eq!(pair.identity.expires_at(), Some(row.ends_at));
    assert!(house.knows(&pair).await);
    house.clock.advance(Duration::from_secs(60));
    assert!(!house.knows(&pair).await);
    assert!(house.refuses(&pair).await);
    let row = house.row(&pair).await;
    assert!(row.ended_at.is_none(), "nobody ended it");
}

#[tokio::test]
async fn into_another_tenant_of_ones_own() {
    let (house, first) = signed_in().await;
    for elsewhere in ["other", "nowhere"] {
        let refused = house.refresh_into(&first.refresh_token, elsewhere).await;
        assert!(is_wrong(&refused), "{elsewhere}");
    }
    let no_slug = house.refresh_into(&first.refresh_token, "Not A Slug").await;
    assert!(matches!(no_slug, Err(CommandError::Refused(_))));
    assert_eq!(house.row(&first).await.rotation, 0, "nothing was exchanged");

    let there = house.another_tenant(&first).await;
    let second = house
        .refresh_into(&first.refresh_token, "other")
        .await
        .unwrap();
    assert_eq!(second.identity.tenant().id, there.tenant_id);
    let identity = house.identify(second.access_token.expose()).await.unwrap();
    assert_eq!(identity.scope().tenant(), there.tenant_id);
    assert_eq!(
        house
            .identify(first.access_token.expose())
            .await
            .unwrap()
            .scope()
            .tenant(),
        first.identity.tenant().id,
        "a token goes on to mean what it meant"
    );
    let third = house.next(&second).await;
    assert_eq!(
        third.identity.tenant().id,
        there.tenant_id,
        "it stays there"
    );
    let signed_in = house.sign_in().await;
    assert_eq!(
        signed_in.identity.tenant().id,
        there.tenant_id,
        "the tenant last used"
    );
}

#[tokio::test]
async fn who_may_not_act_gets_no_tokens() {
    let (house, first) = signed_in().await;
    let db = house.db.owner(SCOPE);
    let scope = first.identity.scope();
    let mut pair = house.next(&first).await;
    for active in [false, true] {
        user::Entity::change_anywhere(SCOPE)
            .col_expr(user::Column::IsActive, Expr::value(active))
            .exec(db)
            .await
            .unwrap();
        let answer = house.refresh(&pair.refresh_token).await;
        assert_eq!(is_wrong(&answer), !active);
        pair = answer.unwrap_or(pair);
    }
    for active in [false, true] {
        tenant::Entity::change_anywhere(SCOPE)
            .col_expr(tenant::Column::IsActive, Expr::value(active))
            .exec(db)
            .await
            .unwrap();
        let answer = house.refresh(&pair.refresh_token).await;
        assert_eq!(is_wrong(&answer), !active);
        pair = answer.unwrap_or(pair);
    }
    for ended_at in [Some(house.clock.now()), None] {
        membership::Entity::change_in(scope)
            .col_expr(membership::Column::EndedAt, Expr::value(ended_at))
            .exec(db)
            .await
            .unwrap();
        let answer = house.refresh(&pair.refresh_token).await;
        assert_eq!(is_wrong(&answer), ended_at.is_some());
        pair = answer.unwrap_or(pair);
    }
    house.auth.sign_out(scope, false).await.unwrap();
    assert!(house.refuses(&pair).await);
}

#[tokio::test]
async fn what_is_no_token_of_ours_is_counted() {
    let (house, first) = signed_in().await;
    let other = House::new().await;
    let unknown = tokens::refresh(&house.keyring, SessionId(uuid::Uuid::nil()), 0);
    let future = tokens::refresh(&house.keyring, first.identity.session().unwrap(), 1);
    let theirs = other.set_up().await;
    let long = "x".repeat(1_000_000);
    let mut no_tokens = vec![
        Secret::new(""),
        Secret::new("weft_rt_"),
        Secret::new("é\0"),
        Secret::new(long.as_str()),
        Secret::new(first.access_token.expose()),
        theirs.access_token,
        unknown,
        future,
    ];
    no_tokens.push(Secret::new(format!("{}x", first.refresh_token.expose())));
    no_tokens.push(Secret::new(first.refresh_token.expose().to_lowercase()));
    for token in &no_tokens {
        assert!(is_wrong(&house.refresh(token).await));
    }
    let blocked = house.refresh(&no_tokens[0]).await;
    assert!(
        matches!(blocked, Err(CommandError::RateLimited { .. })),
        "{blocked:?}"
    );
    house
        .refresh(&first.refresh_token)
        .await
        .expect("a good one is held up by nobody");
    let rows = sign_in_failure::Entity::anywhere(SCOPE)
        .all(house.db.reader(SCOPE))
        .await
        .unwrap();
    assert_eq!(rows.len(), 1, "by the address alone");
}
