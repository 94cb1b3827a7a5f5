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
    /// Google's Gemini. Not served yet.
    Gemini,
    /// OpenAI's models at Azure. Not served yet.
    #[graphql(name = "AZURE_OPENAI")]
    AzureOpenAi,
    /// Ollama by its own protocol. Not served yet; it also answers as OPENAI_COMPATIBLE.
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
    /// It answers, and more calls fail than should.
    Degraded,
    /// It did not answer when it was last asked.
    Unhealthy,
}
json_enum!(ModelHealthStatus);
