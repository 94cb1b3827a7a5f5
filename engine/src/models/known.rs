use entities::{ModelProvider, llm_model};

/// Tokens that a model may be told where nothing better is known.
const WINDOW: i32 = 32_768;

/// What is known of a model by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) context_window: i32,
    pub(super) tools: bool,
    pub(super) vision: bool,
    pub(super) reasoning: bool,
}

const fn known(context_window: i32, tools: bool, vision: bool, reasoning: bool) -> Known {
    Known {
        context_window,
        tools,
        vision,
        reasoning,
    }
}

/// By how names begin, of several that fit the longest: providers add dates and sizes at the end. Context windows are those
/// that the providers publish.
const BY_NAME: &[(&str, Known)] = &[
    ("chatgpt-4o", known(128_000, false, true, false)),
    ("gpt-3.5-turbo", known(16_385, true, false, false)),
    ("gpt-35-turbo", known(16_385, true, false, false)),
    ("gpt-4", known(8_192, true, false, false)),
    ("gpt-4-32k", known(32_768, true, false, false)),
    ("gpt-4-turbo", known(128_000, true, true, false)),
    ("gpt-4o", known(128_000, true, true, false)),
    ("gpt-4.1", known(1_047_576, true, true, false)),
    ("gpt-4.5", known(128_000, true, true, false)),
    ("gpt-5", known(400_000, true, true, true)),
    ("gpt-5-chat", known(128_000, true, true, false)),
    ("gpt-oss", known(131_072, true, false, true)),
    ("o1", known(200_000, true, true, true)),
    ("o1-mini", known(128_000, false, false, true)),
    ("o1-preview", known(128_000, false, false, true)),
    ("o3", known(200_000, true, true, true)),
    ("o3-mini", known(200_000, true, false, true)),
    ("o4-mini", known(200_000, true, true, true)),
    ("claude-3-", known(200_000, true, true, false)),
    ("claude-3-5-", known(200_000, true, true, false)),
    ("claude-3-7-", known(200_000, true, true, true)),
    ("claude-sonnet-4", known(200_000, true, true, true)),
    ("claude-opus-4", known(200_000, true, true, true)),
    ("claude-haiku-4", known(200_000, true, true, true)),
    ("deepseek-chat", known(128_000, true, false, false)),
    ("deepseek-reasoner", known(128_000, true, false, true)),
    ("gemini-1.5", known(1_048_576, true, true, false)),
    ("gemini-1.5-pro", known(2_097_152, true, true, false)),
    ("gemini-2.0", known(1_048_576, true, true, false)),
    ("gemini-2.5", known(1_048_576, true, true, true)),
    ("gemini-2.5-flash-image", known(32_768, false, true, false)),
    ("gemini-3", known(1_048_576, true, true, true)),
    ("gemini-flash", known(1_048_576, true, true, true)),
    ("gemini-pro-latest", known(1_048_576, true, true, true)),
    ("gemma-3", known(131_072, false, true, false)),
    ("gemma3", known(131_072, false, true, false)),
    ("llama-3.1", known(131_072, true, false, false)),
    ("llama3.1", known(131_072, true, false, false)),
    ("llama3.2", known(131_072, true, false, false)),
    ("llama-3.3", known(131_072, true, false, false)),
    ("llama3.3", known(131_072, true, false, false)),
    ("mistral-large", known(131_072, true, false, false)),
    ("qwen3", known(40_960, true, false, false)),
    ("qwq", known(40_960, true, false, true)),
];

/// What is known of the model that a provider calls `name`; routers write its maker before it (`openai/gpt-4o`).
pub(super) fn of(provider: ModelProvider, name: &str) -> Known {
    if provider == ModelProvider::Builtin {
        return known(WINDOW, false, false, false);
    }
    let name = name.to_ascii_lowercase();
    let name = name.rsplit('/').next().unwrap_or(&name);
    let mut found = BY_NAME
        .iter()
        .filter(|(begin, _)| name.starts_with(begin))
        .max_by_key(|(begin, _)| begin.len())
        .map_or(known(WINDOW, true, false, false), |&(_, known)| known);
    if provider == ModelProvider::Ollama {
        // it keeps a window's memory free for each conversation, so that all of one may be more than its machine has
        found.context_window = found.context_window.min(WINDOW);
    }
    found
}

/// Tokens that a model may be told: its setting, else what is known of its name, else 32,768.
#[must_use]
pub fn context_window(model: &llm_model::Model) -> i32 {
    model
        .context_window
        .unwrap_or_else(|| of(model.provider, &model.model_name).context_window)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_counts() {
        for (name, window, vision, reasoning) in [
            ("gpt-4", 8_192, false, false),
            ("gpt-4o-mini-2024-07-18", 128_000, true, false),
            ("GPT-4.1-nano", 1_047_576, true, false),
            ("openai/gpt-5-mini", 400_000, true, true),
            ("o3-mini-2025-01-31", 200_000, false, true),
            ("claude-3-5-sonnet-20241022", 200_000, true, false),
            ("claude-sonnet-4-5-20250929", 200_000, true, true),
            ("my-own-model", 32_768, false, false),
            ("", 32_768, false, false),
        ] {
            let known = of(ModelProvider::OpenAiCompatible, name);
            assert_eq!(
                (
                    known.context_window,
                    known.tools,
                    known.vision,
                    known.reasoning
                ),
                (window, true, vision, reasoning),
                "{name}"
            );
        }
        assert!(!of(ModelProvider::Builtin, "extractive").tools);
        let gemini = of(ModelProvider::Gemini, "models/gemini-2.5-flash");
        assert_eq!(gemini, known(1_048_576, true, true, true));
        let ollama = of(ModelProvider::Ollama, "llama3.1:8b");
        assert_eq!(ollama, known(32_768, true, false, false));
    }
}
