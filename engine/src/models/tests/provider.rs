use adapters::{outbound::Reach, sealing::Secret, tasks::Tasks};
use entities::{ModelHealthStatus, ModelKind, ModelProvider};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{compatible, sent};
use crate::models::{
    CreateModel, OperatorEnvironment, OperatorModel, UpdateModel,
    testing::{House, SYSTEM, said},
};

/// A provider that gives each of these answers once, in order.
pub(super) async fn provider(answers: Vec<(u16, &'static str)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    Tasks::new().spawn("a provider", async move {
        for (status, body) in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 8192];
            let mut read = 0;
            while !request[..read].windows(4).any(|window| window == b"\r\n\r\n") {
                read += socket.read(&mut request[read..]).await.unwrap();
            }
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    format!("http://{address}/v1")
}

#[tokio::test]
async fn a_check_is_recorded_as_health() {
    let house = House::new().await;
    let refusal = r#"{"error":{"message":"bad key sk-secret-9 at http://inside/x"}}"#;
    let url = provider(vec![(200, r#"{"data":[{"id":"local"}]}"#), (401, refusal)]).await;
    let new = CreateModel {
        api_key: Some(Secret::new("sk-secret-9")),
        ..compatible(&url)
    };
    let id = house.engine.create_model(&house.owner, new).await.unwrap();

    house.engine.check_model(&house.owner, id).await.unwrap();
    let row = house.model(id).await;
    assert_eq!(
        (row.health, row.checked_at, row.health_message),
        (
            ModelHealthStatus::Healthy,
            Some(house.engine.clock().now()),
            None
        )
    );
    assert!(row.latency_ms.is_some());

    house.engine.check_model(&house.owner, id).await.unwrap();
    let row = house.model(id).await;
    assert_eq!(
        (row.health, row.latency_ms),
        (ModelHealthStatus::Unhealthy, None)
    );
    assert_eq!(
        row.health_message.as_deref(),
        Some("bad key *** at [address]")
    );
    assert_eq!(
        house.changes().await,
        ["Model Created", "Model Updated", "Model Updated"]
    );

    house
        .engine
        .update_model(
            &house.owner,
            id,
            UpdateModel {
                model_name: Some("b".into()),
                ..UpdateModel::default()
            },
        )
        .await
        .unwrap();
    let row = house.model(id).await;
    assert_eq!(
        (row.health, row.checked_at, row.health_message),
        (ModelHealthStatus::Unknown, None, None)
    );
}

#[tokio::test]
async fn the_operators_model_is_the_default() {
    let house = House::new().await;
    let seed = async |found: Option<OperatorModel>| {
        let tx = house
            .engine
            .log()
            .db()
            .begin(entities::Within::Owner(SYSTEM))
            .await
            .unwrap();
        house
            .engine
            .seed_models(&tx, &house.owner, found)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    };
    // Loopback is allowed in these tests; the operator's address needs no such leave.
    let url = provider(vec![(
        200,
        r#"{"data":[{"id":"text-embedding-3"},{"id":"qwen3:4b"}]}"#,
    )])
    .await
    .replace("127.0.0.1", "localhost");
    let environment = OperatorEnvironment::read(|name| match name {
        "OPENAI_API_KEY" => Some("sk-op".into()),
        "OPENAI_BASE_URL" => Some(url.clone()),
        "OPENAI_MODEL" => Some(" ".into()),
        _ => None,
    });
    let found = house
        .engine
        .find_operator_model(&environment)
        .await
        .unwrap();
    assert_eq!(
        (found.provider, found.model_name.as_str()),
        (ModelProvider::OpenAiCompatible, "qwen3:4b")
    );
    seed(Some(found)).await;
    let rows = house.models().await;
    let slugs: Vec<_> = rows
        .iter()
        .map(|row| (row.slug.as_str(), row.provider, row.by_operator))
        .collect();
    assert_eq!(
        slugs,
        [
            ("extractive", ModelProvider::Builtin, false),
            ("qwen3-4b", ModelProvider::OpenAiCompatible, true)
        ]
    );
    assert_eq!(house.tenant().await.default_model_id, Some(rows[1].id));
    assert_eq!(sent(&house, rows[1].id).await.0.as_deref(), Some("sk-op"));

    let snapshot = house.engine.log().snapshot(entities::Within::Owner(SYSTEM));
    let endpoint = house
        .engine
        .endpoint(snapshot.tx().await.unwrap(), &rows[1])
        .await
        .unwrap();
    assert_eq!(endpoint.reach, Reach::Operator);
    drop(snapshot);
    let named = UpdateModel {
        base_url: Some(rows[1].base_url.clone()),
        ..UpdateModel::default()
    };
    house
        .engine
        .update_model(&house.owner, rows[1].id, named)
        .await
        .unwrap();
    assert!(
        house.model(rows[1].id).await.by_operator,
        "the same address is still the operator's"
    );
    let moved = UpdateModel {
        base_url: Some(Some("https://elsewhere.example".into())),
        ..UpdateModel::default()
    };
    house
        .engine
        .update_model(&house.owner, rows[1].id, moved)
        .await
        .unwrap();
    let row = house.model(rows[1].id).await;
    assert!(!row.by_operator && !row.has_api_key);
}

#[tokio::test]
async fn without_a_key_the_built_in_model_is_the_default() {
    let house = House::new().await;
    assert!(
        house
            .engine
            .find_operator_model(&OperatorEnvironment::default())
            .await
            .is_none()
    );
    let tx = house
        .engine
        .log()
        .db()
        .begin(entities::Within::Owner(SYSTEM))
        .await
        .unwrap();
    house
        .engine
        .seed_models(&tx, &house.owner, None)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let rows = house.models().await;
    assert_eq!(
        (
            rows.len(),
            rows[0].name.as_str(),
            house.tenant().await.default_model_id
        ),
        (1, "Extractive", Some(rows[0].id))
    );
    house
        .engine
        .check_model(&house.owner, rows[0].id)
        .await
        .unwrap();
    assert_eq!(
        house.model(rows[0].id).await.health,
        ModelHealthStatus::Healthy
    );

    // A named model needs no list; a list that can't be had makes none.
    let only = |names: &'static [(&str, &str)]| {
        OperatorEnvironment::read(move |name| {
            names
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        })
    };
    let named = only(&[("ANTHROPIC_API_KEY", "k"), ("ANTHROPIC_MODEL", "claude-x")]);
    let found = house.engine.find_operator_model(&named).await.unwrap();
    assert_eq!(
        (found.provider, found.model_name.as_str(), found.base_url),
        (ModelProvider::Anthropic, "claude-x", None)
    );
    for url in ["not a url", "ftp://a.example", "http://127.0.0.1:1/v1"] {
        let environment = OperatorEnvironment::read(|name| match name {
            "OPENAI_API_KEY" => Some("k".into()),
            "OPENAI_BASE_URL" => Some(url.into()),
            _ => None,
        });
        assert!(
            house
                .engine
                .find_operator_model(&environment)
                .await
                .is_none(),
            "{url}"
        );
    }
}

#[tokio::test]
async fn each_provider_is_asked_in_its_own_way() {
    let house = House::new().await;
    let provider = support::provider::Provider::start().await;
    for name in ["gemini-2.5-flash", "gpt-4o", "llama3.1:8b"] {
        provider.script(name, support::provider::Turn::text("yes"));
    }
    for (kind, name, window, thinks) in [
        (ModelProvider::Gemini, "gemini-2.5-flash", 1_048_576, true),
        (ModelProvider::AzureOpenAi, "gpt-4o", 128_000, false),
        (ModelProvider::Ollama, "llama3.1:8b", 32_768, false),
    ] {
        let new = CreateModel {
            base_url: Some(provider.base_url()),
            api_key: Some(Secret::new("k")),
            ..CreateModel::new(ModelKind::Chat, kind, name)
        };
        let id = house.engine.create_model(&house.owner, new).await.unwrap();
        let row = house.model(id).await;
        assert_eq!(
            (row.context_window, row.supports_reasoning),
            (Some(window), thinks),
            "{name}"
        );
        let snapshot = house.engine.log().snapshot(entities::Within::Owner(SYSTEM));
        let tx = snapshot.tx().await.unwrap();
        let endpoint = house.engine.endpoint(tx, &row).await.unwrap();
        assert_eq!(
            (endpoint.context_window, endpoint.thinks),
            (u32::try_from(window).ok(), thinks)
        );
        drop(snapshot);
        house.engine.check_model(&house.owner, id).await.unwrap();
        let row = house.model(id).await;
        assert_eq!(
            (row.health, row.health_message),
            (ModelHealthStatus::Healthy, None),
            "{name}"
        );

        // the provider's own address again, where it has one
        let change = UpdateModel {
            base_url: Some(None),
            ..UpdateModel::default()
        };
        let changed = said(house.engine.update_model(&house.owner, id, change).await);
        match kind {
            ModelProvider::Gemini => assert!(changed.starts_with("done"), "{changed}"),
            ModelProvider::AzureOpenAi => {
                assert_eq!(changed, "baseUrl: baseUrl is needed by AZURE_OPENAI");
            }
            _ => assert_eq!(changed, "baseUrl: baseUrl is needed by OLLAMA"),
        }
    }
}

#[tokio::test]
async fn the_environment_may_name_any_of_them() {
    let house = House::new().await;
    let provider = support::provider::Provider::start().await;
    let host = provider.address().to_string();
    let found = async |variables: &[(&str, &str)]| {
        let environment = OperatorEnvironment::read(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        let found = house.engine.find_operator_model(&environment).await;
        found.map(|found| (found.provider, found.base_url, found.model_name))
    };
    let (ollama, azure, gemini) = (
        ModelProvider::Ollama,
        ModelProvider::AzureOpenAi,
        ModelProvider::Gemini,
    );
    let at = format!("http://{host}");
    assert_eq!(
        found(&[("OLLAMA_HOST", &host)]).await,
        Some((ollama, Some(at), "tokens-20-10".into()))
    );
    for (host, address) in [
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("box:80", "http://box:80"),
        ("https://box.example/ollama", "https://box.example/ollama"),
    ] {
        assert_eq!(
            found(&[("OLLAMA_HOST", host), ("OLLAMA_MODEL", "m")]).await,
            Some((ollama, Some(address.into()), "m".into()))
        );
    }
    assert_eq!(
        found(&[("GEMINI_API_KEY", "k"), ("GEMINI_MODEL", "gemini-x")]).await,
        Some((gemini, None, "gemini-x".into()))
    );
    let endpoint = "https://weft.openai.azure.com";
    let key = ("AZURE_OPENAI_API_KEY", "k");
    let (at, deployment) = (
        ("AZURE_OPENAI_ENDPOINT", endpoint),
        ("AZURE_OPENAI_DEPLOYMENT", "gpt"),
    );
    assert_eq!(
        found(&[key, at, deployment]).await,
        Some((azure, Some(endpoint.into()), "gpt".into()))
    );
    // without an address, or without a deployment, there is nothing to call
    assert_eq!(found(&[key, deployment]).await, None);
    assert_eq!(found(&[key, at]).await, None);

    // one that needs no key has none
    let environment =
        OperatorEnvironment::read(|name| (name == "OLLAMA_HOST").then(|| host.clone()));
    let model = house.engine.find_operator_model(&environment).await;
    let tx = house
        .engine
        .log()
        .db()
        .begin(entities::Within::Owner(SYSTEM))
        .await
        .unwrap();
    house
        .engine
        .seed_models(&tx, &house.owner, model)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let row = house.models().await.remove(1);
    assert_eq!(
        (row.provider, row.by_operator, row.has_api_key),
        (ollama, true, false)
    );
    assert_eq!(house.tenant().await.default_model_id, Some(row.id));
    house
        .engine
        .check_model(&house.owner, row.id)
        .await
        .unwrap();
    assert_eq!(house.model(row.id).await.health, ModelHealthStatus::Healthy);
}
