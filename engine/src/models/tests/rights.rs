use entities::{CommandError, ModelId, Refusal, Role, Visibility};

use super::chat;
use crate::{
    agents::{CreateAgent, UpdateAgent},
    models::{
        CreateModel, UpdateModel,
        testing::{House, said},
    },
};

#[tokio::test]
async fn who_may_what() {
    let house = House::new().await;
    let (admin, editor, member) = (
        house.member(2, Role::Admin),
        house.member(3, Role::Editor),
        house.member(4, Role::Member),
    );
    let stranger = house.stranger().await;
    let id = house
        .engine
        .create_model(&admin, chat("gpt-4o"))
        .await
        .unwrap();
    let private = CreateModel {
        visibility: Some(Visibility::Private),
        ..chat("o3")
    };
    let private = house.engine.create_model(&admin, private).await.unwrap();
    for scope in [&editor, &member] {
        assert_eq!(
            said(house.engine.create_model(scope, chat("m")).await),
            "forbidden"
        );
        assert_eq!(
            said(
                house
                    .engine
                    .update_model(scope, id, UpdateModel::default())
                    .await
            ),
            "id: not allowed"
        );
        assert_eq!(
            said(house.engine.check_model(scope, id).await),
            "id: not allowed"
        );
        assert_eq!(
            said(house.engine.delete_model(scope, id, true).await),
            "id: not allowed"
        );
        assert_eq!(
            said(
                house
                    .engine
                    .update_model(scope, private, UpdateModel::default())
                    .await
            ),
            "id: not found"
        );
    }
    for id in [id, private, ModelId(house.engine.clock().uuid())] {
        assert_eq!(
            said(
                house
                    .engine
                    .update_model(&stranger, id, UpdateModel::default())
                    .await
            ),
            "id: not found"
        );
        assert_eq!(
            said(house.engine.check_model(&stranger, id).await),
            "id: not found"
        );
        assert_eq!(
            said(house.engine.delete_model(&stranger, id, true).await),
            "id: not found"
        );
    }
    assert_eq!(
        said(
            house
                .engine
                .create_model(
                    &stranger,
                    CreateModel {
                        fallbacks: vec![id],
                        ..chat("m")
                    }
                )
                .await
        ),
        "fallbackIds.0: not found"
    );
    let theirs = house
        .engine
        .create_model(
            &stranger,
            CreateModel {
                slug: Some("gpt-4o".into()),
                ..chat("m")
            },
        )
        .await;
    assert!(theirs.is_ok(), "slugs are of one tenant");
    house
        .engine
        .update_model(&house.owner, private, UpdateModel::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_in_use_is_deleted_by_force_alone() {
    let house = House::new().await;
    let engine = &house.engine;
    let id = engine
        .create_model(
            &house.owner,
            CreateModel {
                is_default: true,
                ..chat("gpt-4o")
            },
        )
        .await
        .unwrap();
    let other = engine
        .create_model(
            &house.owner,
            CreateModel {
                fallbacks: vec![id],
                ..chat("o3")
            },
        )
        .await
        .unwrap();
    let new = |name: &str, model| CreateAgent {
        name: name.into(),
        instructions: "Weave.".into(),
        model,
        ..CreateAgent::default()
    };
    let with_draft = engine
        .create_agent(&house.owner, new("Draft", None))
        .await
        .unwrap();
    engine
        .update_agent(
            &house.owner,
            with_draft,
            UpdateAgent {
                model: Some(Some(id)),
                ..UpdateAgent::default()
            },
        )
        .await
        .unwrap();
    let with_version = engine
        .create_agent(&house.owner, new("Version", Some(id)))
        .await
        .unwrap();
    engine
        .update_agent(
            &house.owner,
            with_version,
            UpdateAgent {
                model: Some(None),
                ..UpdateAgent::default()
            },
        )
        .await
        .unwrap();
    let deleted = engine
        .create_agent(&house.owner, new("Gone", Some(id)))
        .await
        .unwrap();
    engine.delete_agent(&house.owner, deleted).await.unwrap();

    let refused = engine.delete_model(&house.owner, id, false).await;
    let Err(CommandError::Refused(refusals)) = refused else {
        panic!("{refused:?}")
    };
    let [Refusal::InUse { by, .. }] = &refusals[..] else {
        panic!("{refusals:?}")
    };
    let by: Vec<_> = by.iter().map(|reference| reference.id).collect();
    assert_eq!(
        by,
        [
            with_draft.0,
            with_version.0,
            other.0,
            house.owner.tenant().0
        ]
    );

    // Who may not change the agents may not take their model away.
    let keeper = entities::Scope::new(
        house.owner.tenant(),
        house.owner.user(),
        Role::Owner,
        entities::Permissions::of(Role::Owner).without(entities::Permission::AgentsEdit),
        house.owner.principal(),
    );
    assert_eq!(
        said(engine.delete_model(&keeper, id, true).await),
        "force: not allowed"
    );

    engine.delete_model(&house.owner, id, true).await.unwrap();
    assert!(house.model(id).await.deleted_at.is_some());
    assert_eq!(house.agent(with_draft).await.draft_model_id, None);
    assert_eq!(
        (
            house.fallbacks(other).await,
            house.tenant().await.default_model_id
        ),
        (vec![], None)
    );
    assert_eq!(
        said(engine.delete_model(&house.owner, id, true).await),
        "id: not found"
    );
    assert_eq!(
        said(
            engine
                .create_agent(&house.owner, new("Late", Some(id)))
                .await
        ),
        "modelId: not found"
    );
    let again = engine
        .create_model(&house.owner, chat("gpt-4o"))
        .await
        .unwrap();
    assert_eq!(
        house.model(again).await.slug,
        "gpt-4o",
        "the slug is free again"
    );
    engine
        .delete_model(&house.owner, again, false)
        .await
        .unwrap();
}
