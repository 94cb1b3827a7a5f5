use std::time::Duration;

use entities::{
    AgentId, CommandError, ModelId, ModelKind, ModelProvider, Refusal, Role, Visibility,
};

use super::{CreateAgent, PublishAgent, UpdateAgent};
use crate::models::{
    CreateModel,
    testing::{House, said},
};

fn weaver() -> CreateAgent {
    CreateAgent {
        name: "Weaver".into(),
        instructions: "Weave.".into(),
        ..CreateAgent::default()
    }
}

#[tokio::test]
async fn an_agent_is_made_with_its_first_version() {
    let house = House::new().await;
    let id = house
        .engine
        .create_agent(
            &house.owner,
            CreateAgent {
                name: " Weaver ".into(),
                ..weaver()
            },
        )
        .await
        .unwrap();
    let (row, versions) = (house.agent(id).await, house.versions(id).await);
    assert_eq!(
        (
            row.slug.as_str(),
            row.name.as_str(),
            row.description.as_str()
        ),
        ("weaver", "Weaver", "")
    );
    assert_eq!(
        (row.visibility, row.is_enabled, row.draft.max_steps),
        (Visibility::Tenant, true, 20)
    );
    assert_eq!(versions.len(), 1);
    assert_eq!(
        (versions[0].id, versions[0].number, &versions[0].spec),
        (row.version_id, 1, &row.draft)
    );
    for slug in ["weaver-2", "weaver-3"] {
        let id = house
            .engine
            .create_agent(&house.owner, weaver())
            .await
            .unwrap();
        assert_eq!(house.agent(id).await.slug, slug);
    }
    assert_eq!(house.changes().await, ["Agent Created"; 3]);
}

#[tokio::test]
async fn each_unacceptable_field_is_named() {
    let house = House::new().await;
    let taken = house
        .engine
        .create_agent(&house.owner, weaver())
        .await
        .unwrap();
    let absent = ModelId(house.engine.clock().uuid());
    for (new, says) in [
        (
            CreateAgent {
                name: "".into(),
                ..weaver()
            },
            "name: name must not be empty",
        ),
        (
            CreateAgent {
                name: "x".repeat(201),
                ..weaver()
            },
            "name: name has 201 characters, at most 200 are allowed",
        ),
        (
            CreateAgent {
                instructions: " ".into(),
                ..weaver()
            },
            "instructions: instructions must not be empty",
        ),
        (
            CreateAgent {
                instructions: "界".repeat(100_001),
                ..weaver()
            },
            "instructions: instructions has 100001 characters, at most 100000 are allowed",
        ),
        (
            CreateAgent {
                description: Some("a\0".into()),
                ..weaver()
            },
            "description: description must not contain NUL",
        ),
        (
            CreateAgent {
                greeting: Some("x".repeat(20_001)),
                ..weaver()
            },
            "greeting: greeting has 20001 characters, at most 20000 are allowed",
        ),
        (
            CreateAgent {
                starters: vec!["a".into(); 21],
                ..weaver()
            },
            "starters: starters has 21 entries, at most 20 are allowed",
        ),
        (
            CreateAgent {
                starters: vec!["a".into(), "".into()],
                ..weaver()
            },
            "starters.1: a starter must not be empty",
        ),
        (
            CreateAgent {
                temperature: Some(2.1),
                ..weaver()
            },
            "temperature: temperature must be from 0 to 2, got 2.1",
        ),
        (
            CreateAgent {
                temperature: Some(f64::NAN),
                ..weaver()
            },
            "temperature: temperature must be from 0 to 2, got NaN",
        ),
        (
            CreateAgent {
                max_steps: Some(0),
                ..weaver()
            },
            "maxSteps: maxSteps must be from 1 to 100, got 0",
        ),
        (
            CreateAgent {
                max_steps: Some(101),
                ..weaver()
            },
            "maxSteps: maxSteps must be from 1 to 100, got 101",
        ),
        (
            CreateAgent {
                max_output_tokens: Some(0),
                ..weaver()
            },
            "maxOutputTokens: maxOutputTokens must be at least 1, got 0",
        ),
        (
            CreateAgent {
                visibility: Some(Visibility::Group),
                ..weaver()
            },
            "visibility: visibility GROUP needs a group: give groupId",
        ),
        (
            CreateAgent {
                model: Some(absent),
                ..weaver()
            },
            "modelId: not found",
        ),
        (
            CreateAgent {
                slug: Some("weaver".into()),
                ..weaver()
            },
            "slug: conflict: the slug \"weaver\" is taken",
        ),
        (
            CreateAgent {
                slug: Some("_".into()),
                max_steps: Some(0),
                ..weaver()
            },
            "slug: slug must match [a-z0-9-]{1,63}, got \"_\"; maxSteps: maxSteps must be from 1 to 100, got 0",
        ),
    ] {
        assert_eq!(
            said(house.engine.create_agent(&house.owner, new).await),
            says
        );
    }
    let refused = house
        .engine
        .create_agent(
            &house.owner,
            CreateAgent {
                slug: Some("weaver".into()),
                ..weaver()
            },
        )
        .await;
    let Err(CommandError::Refused(refusals)) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        matches!(refusals[..], [Refusal::Conflict { conflicting: Some(reference), .. }] if reference.id == taken.0)
    );
}

#[tokio::test]
async fn a_draft_is_published_once_it_changed() {
    let house = House::new().await;
    let engine = &house.engine;
    let id = engine
        .create_agent(
            &house.owner,
            CreateAgent {
                greeting: Some("Hello".into()),
                temperature: Some(1.0),
                ..weaver()
            },
        )
        .await
        .unwrap();
    let first = house.agent(id).await;
    let publish = |name: Option<&str>| {
        engine.publish_agent(
            &house.owner,
            id,
            PublishAgent {
                name: name.map(str::to_owned),
                notes: None,
            },
        )
    };
    let same = publish(Some("Again")).await.unwrap();
    assert_eq!((same.version, same.is_new), (first.version_id, false));

    house.clock.advance(Duration::from_secs(1));
    let unversioned = UpdateAgent {
        name: Some("Spinner".into()),
        is_enabled: Some(false),
        ..UpdateAgent::default()
    };
    engine
        .update_agent(&house.owner, id, unversioned)
        .await
        .unwrap();
    let row = house.agent(id).await;
    assert_eq!(
        (row.name.as_str(), row.is_enabled, row.slug.as_str()),
        ("Spinner", false, "weaver")
    );
    assert_eq!(row.draft_updated_at, first.draft_updated_at);
    assert!(!publish(None).await.unwrap().is_new);

    let change = UpdateAgent {
        instructions: Some("Spin.".into()),
        greeting: Some(None),
        ..UpdateAgent::default()
    };
    engine.update_agent(&house.owner, id, change).await.unwrap();
    let row = house.agent(id).await;
    assert!(row.draft_updated_at > first.draft_updated_at);
    assert_eq!(
        (
            row.draft.instructions.as_str(),
            row.draft.greeting.as_deref(),
            row.draft.temperature
        ),
        ("Spin.", None, Some(1.0))
    );
    assert_eq!(
        house.versions(id).await[0].spec.instructions,
        "Weave.",
        "a version never changes"
    );
    let second = publish(Some("Spinning")).await.unwrap();
    let versions = house.versions(id).await;
    assert!(second.is_new);
    assert_eq!(
        (
            versions.len(),
            versions[1].id,
            versions[1].number,
            versions[1].name.as_deref()
        ),
        (2, second.version, 2, Some("Spinning"))
    );
    assert_eq!(
        (house.agent(id).await.version_id, &versions[1].spec),
        (second.version, &row.draft)
    );
    assert_eq!(
        said(publish(Some(" ")).await),
        "name: name must not be empty"
    );
}

#[tokio::test]
async fn who_may_what() {
    let house = House::new().await;
    let engine = &house.engine;
    let (editor, other, member) = (
        house.member(2, Role::Editor),
        house.member(3, Role::Editor),
        house.member(4, Role::Member),
    );
    let stranger = house.stranger().await;
    let id = engine.create_agent(&editor, weaver()).await.unwrap();
    let private = engine
        .create_agent(
            &editor,
            CreateAgent {
                visibility: Some(Visibility::Private),
                ..weaver()
            },
        )
        .await
        .unwrap();
    assert_eq!(
        said(engine.create_agent(&member, weaver()).await),
        "forbidden"
    );
    let (nothing, called) = (UpdateAgent::default, PublishAgent::default);
    for scope in [&other, &member] {
        for (id, says) in [(id, "id: not allowed"), (private, "id: not found")] {
            assert_eq!(said(engine.update_agent(scope, id, nothing()).await), says);
            assert_eq!(said(engine.publish_agent(scope, id, called()).await), says);
            assert_eq!(said(engine.delete_agent(scope, id).await), says);
        }
    }
    for id in [id, private, AgentId(engine.clock().uuid())] {
        assert_eq!(
            said(engine.update_agent(&stranger, id, nothing()).await),
            "id: not found"
        );
        assert_eq!(
            said(engine.publish_agent(&stranger, id, called()).await),
            "id: not found"
        );
        assert_eq!(
            said(engine.delete_agent(&stranger, id).await),
            "id: not found"
        );
    }
    engine
        .update_agent(&house.owner, private, nothing())
        .await
        .unwrap();
    engine.delete_agent(&editor, id).await.unwrap();
    assert_eq!(
        said(engine.delete_agent(&editor, id).await),
        "id: not found"
    );
    assert!(house.agent(id).await.deleted_at.is_some());
}

#[tokio::test]
async fn a_model_out_of_sight_stays_but_is_not_taken_up() {
    let house = House::new().await;
    let (engine, editor) = (&house.engine, house.member(2, Role::Editor));
    let new = CreateModel {
        visibility: Some(Visibility::Private),
        ..CreateModel::new(ModelKind::Chat, ModelProvider::OpenAi, "gpt-4o")
    };
    let model = engine.create_model(&house.owner, new).await.unwrap();
    assert_eq!(
        said(
            engine
                .create_agent(
                    &editor,
                    CreateAgent {
                        model: Some(model),
                        ..weaver()
                    }
                )
                .await
        ),
        "modelId: not found"
    );
    let id = engine.create_agent(&editor, weaver()).await.unwrap();
    engine
        .update_agent(
            &house.owner,
            id,
            UpdateAgent {
                model: Some(Some(model)),
                ..UpdateAgent::default()
            },
        )
        .await
        .unwrap();
    let change = UpdateAgent {
        model: Some(Some(model)),
        max_steps: Some(5),
        ..UpdateAgent::default()
    };
    engine.update_agent(&editor, id, change).await.unwrap();
    assert_eq!(house.agent(id).await.draft_model_id, Some(model));
    engine
        .update_agent(
            &editor,
            id,
            UpdateAgent {
                model: Some(None),
                ..UpdateAgent::default()
            },
        )
        .await
        .unwrap();
    let back = engine
        .update_agent(
            &editor,
            id,
            UpdateAgent {
                model: Some(Some(model)),
                ..UpdateAgent::default()
            },
        )
        .await;
    assert_eq!(said(back), "modelId: not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_one_name_made_at_once_get_slugs_of_their_own() {
    let house = House::new().await;
    let make = || house.engine.create_agent(&house.owner, weaver());
    let made = futures_util::future::join_all(std::iter::repeat_with(make).take(8)).await;
    let mut slugs = Vec::new();
    for id in made {
        slugs.push(house.agent(id.unwrap()).await.slug);
    }
    slugs.sort_unstable();
    let expected: Vec<_> = (1..=8)
        .map(|number| {
            if number == 1 {
                "weaver".to_owned()
            } else {
                format!("weaver-{number}")
            }
        })
        .collect();
    assert_eq!(slugs, expected);
}
