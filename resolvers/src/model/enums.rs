use async_graphql::{Enum, json_enum};

/// What a model does. More may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::ModelKind")]
pub enum ModelKind {
    /// Answers in a conversation.
    Chat,
    /// Turns text into vectors. Not served yet.
    Embedding,
    /// Puts passages in the order in which they answer a question. Not served yet.
    Rerank,
    /// Writes down what is said. Not served yet.
    SpeechToText,
    /// Reads aloud. Not served yet.
    TextToSpeech,
    /// Makes pictures. Not served yet.
    Image,
}
json_enum!(ModelKind);

/// Who serves a model, and so how it is spoken to. More may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::ModelProvider")]
pub enum ModelProvider {
    /// OpenAI.
    #[graphql(name = "OPENAI")]
    OpenAi,
    /// A server that understands OpenAI's chat completions: vLLM, Ollama, LiteLLM and many more. It needs a `baseUrl`.
    #[graphql(name = "OPENAI_COMPATIBLE")]
    OpenAiCompatible,
    /// Anthropic.
    Anthropic,
    /// Google's Gemini.
    Gemini,
    /// OpenAI's models at Azure. It needs a `baseUrl`: the resource's, with the version of its API as `?api-version=` where another
    /// than the usual is wanted, or one that ends in `/openai/v1`. `modelName` is the deployment's.
    #[graphql(name = "AZURE_OPENAI")]
    AzureOpenAi,
    /// Ollama by its own protocol. It needs a `baseUrl`. `contextWindow` is what it is asked to keep for a conversation.
    Ollama,
    /// This server itself, without a network or a key: its model `extractive` answers by quoting.
    Builtin,
}
json_enum!(ModelProvider);

/// How a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::ModelHealthStatus")]
pub enum ModelHealthStatus {
    /// It was not called yet, or not since its address, key or name changed.
    Unknown,
    /// It answers.
    Healthy,
    /// It answers, and more than a tenth of its calls in the last hour failed.
    Degraded,
    /// It did not answer when it was last asked, or failed so often that it is left alone for a moment.
    Unhealthy,
}
json_enum!(ModelHealthStatus);
