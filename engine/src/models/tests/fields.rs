use std::time::Duration;

use adapters::sealing::Secret;
use entities::{
    CommandError, ModelHealthStatus, ModelId, ModelKind, ModelProvider, Refusal, Visibility,
};

use super::{chat, compatible, header, sent};
use crate::models::{
    CreateModel, Pricing, UpdateModel, context_window,
    testing::{House, said},
};

#[tokio::test]
async fn what_is_left_out_is_filled_in() {
    let house = House::new().await;
    let new = CreateModel {
        api_key: Some(Secret::new(" sk-123 ")),
        ..chat(" gpt-4o-mini ")
    };
    let id = house.engine.create_model(&house.owner, new).await.unwrap();
    let row = house.model(id).await;
    assert_eq!(
        (
            row.slug.as_str(),
            row.name.as_str(),
            row.model_name.as_str()
        ),
        ("gpt-4o-mini", "gpt-4o-mini", "gpt-4o-mini")
    );
    assert_eq!(
        (row.context_window, row.timeout_ms, row.max_concurrency),
        (Some(128_000), 60_000, None)
    );
    assert_eq!(
        (
            row.supports_tools,
            row.supports_vision,
            row.supports_reasoning
        ),
        (true, true, false)
    );
    assert_eq!(
        (row.visibility, row.health, row.has_api_key),
        (Visibility::Tenant, ModelHealthStatus::Unknown, true)
    );
    assert_eq!(sent(&house, id).await, (Some("sk-123".into()), vec![]));
    let second = house
        .engine
        .create_model(&house.owner, chat("gpt-4o-mini"))
        .await
        .unwrap();
    assert_eq!(house.model(second).await.slug, "gpt-4o-mini-2");
    assert_eq!(house.changes().await, ["Model Created", "Model Created"]);
}

#[tokio::test]
async fn each_unacceptable_field_is_named() {
    let house = House::new().await;
    let other = house
        .engine
        .create_model(&house.owner, chat("gpt-4o"))
        .await
        .unwrap();
    let (absent, builtin) = (ModelId(house.engine.clock().uuid()), |name: &str| {
        CreateModel::new(ModelKind::Chat, ModelProvider::Builtin, name)
    });
    for (new, says) in [
        (
            CreateModel {
                name: Some(" ".into()),
                ..chat("m")
            },
            "name: name must not be empty",
        ),
        (
            CreateModel {
                name: Some("x".repeat(201)),
                ..chat("m")
            },
            "name: name has 201 characters, at most 200 are allowed",
        ),
        (chat(""), "modelName: modelName must not be empty"),
        (chat("a\0b"), "modelName: modelName must not contain NUL"),
        (
            CreateModel {
                slug: Some("Not this".into()),
                ..chat("m")
            },
            "slug: slug must match [a-z0-9-]{1,63}, got \"Not this\"",
        ),
        (
            CreateModel {
                slug: Some("gpt-4o".into()),
                ..chat("m")
            },
            "slug: conflict: the slug \"gpt-4o\" is taken",
        ),
        (
            CreateModel::new(ModelKind::Embedding, ModelProvider::OpenAi, "m"),
            "kind: kind other than CHAT is not served yet",
        ),
        (
            CreateModel::new(ModelKind::Chat, ModelProvider::AzureOpenAi, "m"),
            "baseUrl: baseUrl is needed by AZURE_OPENAI",
        ),
        (
            CreateModel::new(ModelKind::Chat, ModelProvider::Ollama, "m"),
            "baseUrl: baseUrl is needed by OLLAMA",
        ),
        (
            CreateModel {
                base_url: Some("http://127.0.0.1:11434/?a=b".into()),
                ..CreateModel::new(ModelKind::Chat, ModelProvider::AzureOpenAi, "m")
            },
            "baseUrl: baseUrl must not have a query other than api-version",
        ),
        (
            CreateModel::new(ModelKind::Chat, ModelProvider::OpenAiCompatible, "m"),
            "baseUrl: baseUrl is needed by OPENAI_COMPATIBLE",
        ),
        (
            compatible("http://10.1.2.3/v1"),
            "baseUrl: address not allowed",
        ),
        (
            builtin("other"),
            "modelName: the only BUILTIN model is \"extractive\"",
        ),
        (
            CreateModel {
                api_key: Some(Secret::new("k")),
                ..builtin("extractive")
            },
            "apiKey: a BUILTIN model has no apiKey",
        ),
        (
            CreateModel {
                context_window: Some(0),
                ..chat("m")
            },
            "contextWindow: contextWindow must be at least 1, got 0",
        ),
        (
            CreateModel {
                max_output_tokens: Some(-1),
                ..chat("m")
            },
            "maxOutputTokens: maxOutputTokens must be at least 1, got -1",
        ),
        (
            CreateModel {
                dimensions: Some(3),
                ..chat("m")
            },
            "dimensions: dimensions are those of an EMBEDDING model",
        ),
        (
            CreateModel {
                max_concurrency: Some(0),
                ..chat("m")
            },
            "maxConcurrency: maxConcurrency must be at least 1, got 0",
        ),
        (
            CreateModel {
                timeout_ms: Some(0),
                ..chat("m")
            },
            "timeoutMs: timeoutMs must be at least 1, got 0",
        ),
        (
            CreateModel {
                visibility: Some(Visibility::Group),
                ..chat("m")
            },
            "visibility: visibility GROUP needs a group: give groupId",
        ),
        (
            CreateModel {
                fallbacks: vec![absent],
                ..chat("m")
            },
            "fallbackIds.0: not found",
        ),
        (
            CreateModel {
                fallbacks: vec![other, other],
                ..chat("m")
            },
            &*format!("fallbackIds.1: {other} is given twice"),
        ),
        (
            CreateModel {
                fallbacks: vec![other; 11],
                ..chat("m")
            },
            "fallbackIds: fallbackIds has 11 entries, at most 10 are allowed",
        ),
        (
            CreateModel {
                headers: vec![header("Host", Some("a"))],
                timeout_ms: Some(0),
                ..chat("m")
            },
            "headers.0.name: the header Host can't be set; timeoutMs: timeoutMs must be at least 1, got 0",
        ),
    ] {
        let shown = format!("{new:?}");
        assert_eq!(
            said(house.engine.create_model(&house.owner, new).await),
            says,
            "{shown}"
        );
    }
    assert_eq!(house.models().await.len(), 1);
    let taken = house
        .engine
        .create_model(
            &house.owner,
            CreateModel {
                slug: Some("gpt-4o".into()),
                ..chat("m")
            },
        )
        .await;
    let Err(CommandError::Refused(refusals)) = taken else {
        panic!("{taken:?}")
    };
    assert!(
        matches!(refusals[..], [Refusal::Conflict { conflicting: Some(reference), .. }] if reference.id == other.0)
    );
}

#[tokio::test]
async fn an_update_keeps_what_it_does_not_name() {
    let house = House::new().await;
    let first = house
        .engine
        .create_model(&house.owner, chat("gpt-4o"))
        .await
        .unwrap();
    let price = |text: &str| Some(Some(text.parse().unwrap()));
    let new = CreateModel {
        pricing: Pricing {
            input_per_million: price("2.50"),
            output_per_million: price("10"),
            cached_input_per_million: None,
        },
        max_concurrency: Some(3),
        fallbacks: vec![first],
        is_default: true,
        ..chat("gpt-4.1")
    };
    let id = house.engine.create_model(&house.owner, new).await.unwrap();
    assert_eq!(house.tenant().await.default_model_id, Some(id));
    let before = house.model(id).await;
    assert_eq!(before.input_per_million.as_deref(), Some("2.50"));
    house.clock.advance(Duration::from_secs(1));

    house
        .engine
        .update_model(&house.owner, id, UpdateModel::default())
        .await
        .unwrap();
    let after = house.model(id).await;
    assert_eq!(
        after,
        entities::llm_model::Model {
            updated_at: after.updated_at,
            ..before.clone()
        }
    );
    assert!(after.updated_at > before.updated_at);
    assert_eq!(
        (
            house.fallbacks(id).await,
            house.tenant().await.default_model_id
        ),
        (vec![first], Some(id))
    );

    let change = UpdateModel {
        name: Some("Big".into()),
        max_concurrency: Some(None),
        context_window: Some(None),
        pricing: Some(Some(Pricing {
            output_per_million: Some(None),
            ..Pricing::default()
        })),
        fallbacks: Some(vec![]),
        is_default: Some(false),
        ..UpdateModel::default()
    };
    house
        .engine
        .update_model(&house.owner, id, change)
        .await
        .unwrap();
    let after = house.model(id).await;
    assert_eq!(
        (
            after.name.as_str(),
            after.slug.as_str(),
            after.max_concurrency,
            after.context_window
        ),
        ("Big", "gpt-4-1", None, None)
    );
    assert_eq!(context_window(&after), 1_047_576);
    assert_eq!(
        (after.input_per_million.as_deref(), after.output_per_million),
        (Some("2.50"), None)
    );
    assert_eq!(
        (
            house.fallbacks(id).await,
            house.tenant().await.default_model_id
        ),
        (vec![], None)
    );

    for (change, says) in [
        (
            UpdateModel {
                slug: Some("gpt-4o".into()),
                ..UpdateModel::default()
            },
            "slug: conflict: the slug \"gpt-4o\" is taken",
        ),
        (
            UpdateModel {
                fallbacks: Some(vec![id]),
                ..UpdateModel::default()
            },
            "fallbackIds.0: a model can't be its own fallback",
        ),
        (
            UpdateModel {
                base_url: Some(Some("http://192.168.0.1".into())),
                ..UpdateModel::default()
            },
            "baseUrl: address not allowed",
        ),
        (
            UpdateModel {
                api_key: Some(Some(Secret::new("a\nb"))),
                ..UpdateModel::default()
            },
            "apiKey: apiKey has characters that no header can carry",
        ),
    ] {
        assert_eq!(
            said(house.engine.update_model(&house.owner, id, change).await),
            says
        );
    }
}
