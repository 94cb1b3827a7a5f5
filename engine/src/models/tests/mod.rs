mod fields;
mod health;
mod provider;
mod rights;
mod secrets;

use adapters::sealing::Secret;
use entities::{ModelId, ModelKind, ModelProvider};

use super::{
    CreateModel, Header,
    testing::{House, SYSTEM},
};

fn chat(name: &str) -> CreateModel {
    CreateModel::new(ModelKind::Chat, ModelProvider::OpenAi, name)
}

fn compatible(base_url: &str) -> CreateModel {
    CreateModel {
        base_url: Some(base_url.to_owned()),
        ..CreateModel::new(ModelKind::Chat, ModelProvider::OpenAiCompatible, "local")
    }
}

fn header(name: &str, value: Option<&str>) -> Header {
    Header {
        name: name.to_owned(),
        value: value.map(Secret::new),
    }
}

/// The key and headers that would be sent.
async fn sent(house: &House, id: ModelId) -> (Option<String>, Vec<(String, String)>) {
    let row = house.model(id).await;
    let snapshot = house.engine.log().snapshot(entities::Within::Owner(SYSTEM));
    let endpoint = house
        .engine
        .endpoint(snapshot.tx().await.unwrap(), &row)
        .await
        .unwrap();
    let headers = endpoint
        .headers
        .into_iter()
        .map(|(name, value)| (name, value.expose().to_owned()))
        .collect();
    (endpoint.api_key.map(|key| key.expose().to_owned()), headers)
}
