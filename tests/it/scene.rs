//! A server with its owner, a scripted provider and an agent on it.

use std::time::Duration;

use serde_json::{Value, json};
use support::{
    client::Client,
    provider::Provider,
    server::{Options, Weft},
};

/// How long anything may take that does not say otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What most tests begin with.
pub struct Scene {
    pub weft: Weft,
    pub provider: Provider,
    /// The owner, signed in.
    pub client: Client,
}

impl Scene {
    pub async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        let provider = Provider::start().await;
        let weft = Weft::start(options).await;
        let mut client = weft.client();
        client.set_up().await;
        Self {
            weft,
            provider,
            client,
        }
    }

    /// An agent whose model is this one of the provider's; by its name the provider knows what to do.
    pub async fn agent(&self, model: &str) -> String {
        let model = self
            .client
            .create_model("OPENAI_COMPATIBLE", &self.provider.base_url(), model)
            .await;
        self.client.create_agent("Weaver", &model).await
    }

    /// The state of a run and its answer.
    pub async fn run(&self, id: &str) -> Value {
        let document = "query ($id: ID!) { run(id: $id) {
            status attempts error { kind message retryable } output { id status text parts { __typename index } }
            steps { index finishReason } toolCalls { name status }
        } }";
        self.client.ok(document, json!({ "id": id })).await["run"].clone()
    }

    /// Waits until a run is over.
    pub async fn ended(&self, id: &str) -> Value {
        support::wait::until(PATIENCE, "the run ends", async || {
            let run = self.run(id).await;
            matches!(
                run["status"].as_str(),
                Some("COMPLETED" | "FAILED" | "CANCELLED")
            )
            .then_some(run)
        })
        .await
    }
}
