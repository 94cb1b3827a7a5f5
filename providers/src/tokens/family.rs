//! Which vocabulary comes nearest to a model's, and by how much it is off.

use super::encoding::Encoding;

/// How a family of models counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Family {
    pub(super) encoding: Encoding,
    /// Tokens of the model for a hundred of the vocabulary. Rather too many: one that is too high summarises a little
    /// early, one that is too low costs a call that is refused.
    percent: u64,
}

const fn family(encoding: Encoding, percent: u64) -> Family {
    Family { encoding, percent }
}

use Encoding::{Cl100k, O200k};

/// By how names begin, of several that fit the longest.
const BY_NAME: &[(&str, Family)] = &[
    // OpenAI's own, exact
    ("gpt-", family(O200k, 100)),
    ("gpt-4", family(Cl100k, 100)),
    ("gpt-4o", family(O200k, 100)),
    ("gpt-4.", family(O200k, 100)),
    ("gpt-3.5", family(Cl100k, 100)),
    ("gpt-35", family(Cl100k, 100)),
    // by the last vocabulary that was published (65,000 words): English 107, Python 108, Rust 116, German 125, Chinese 132
    ("claude", family(O200k, 120)),
    // a vocabulary of the same size and the same build; digits stand alone
    ("gemini", family(O200k, 105)),
    ("gemma", family(O200k, 105)),
    // OpenAI's older vocabulary with more added to it, which only makes other languages shorter
    ("llama-3", family(Cl100k, 100)),
    ("llama3", family(Cl100k, 100)),
    ("meta-llama-3", family(Cl100k, 100)),
    // the same, but digits stand alone
    ("qwen", family(Cl100k, 105)),
    ("qwq", family(Cl100k, 105)),
    // 130,000 words each, built on other texts
    ("deepseek", family(O200k, 110)),
    ("mistral", family(O200k, 110)),
    ("ministral", family(O200k, 110)),
    ("magistral", family(O200k, 110)),
    ("codestral", family(O200k, 110)),
    ("devstral", family(O200k, 110)),
    // 32,000 words
    ("llama-2", family(Cl100k, 125)),
    ("llama2", family(Cl100k, 125)),
    ("mixtral", family(Cl100k, 125)),
    ("phi-3", family(Cl100k, 125)),
    ("phi3", family(Cl100k, 125)),
];

impl Family {
    /// Of an unknown name nothing is known but that vocabularies of these years resemble each other: it is counted as
    /// the commonest, and the room that is left above the threshold for summaries is for what that misses.
    pub(super) fn of(model_name: &str) -> Self {
        let name = model_name.to_ascii_lowercase();
        // routers write a model's maker before it
        let name = name.rsplit('/').next().unwrap_or(&name);
        // and Bedrock as well, with dots
        let name = name
            .rsplit_once("anthropic.")
            .map_or(name, |(_, name)| name);
        BY_NAME
            .iter()
            .filter(|(begin, _)| name.starts_with(begin))
            .max_by_key(|(begin, _)| begin.len())
            .map_or(family(O200k, 100), |(_, family)| *family)
    }

    /// Tokens of the model for that many of the vocabulary.
    pub(super) fn scaled(self, tokens: u64) -> u64 {
        tokens.saturating_mul(self.percent).div_ceil(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_family() {
        for (name, encoding, percent) in [
            ("gpt-4o-mini", O200k, 100),
            ("GPT-4.1", O200k, 100),
            ("gpt-5.2-codex", O200k, 100),
            ("o3-mini", O200k, 100),
            ("gpt-4-turbo-2024-04-09", Cl100k, 100),
            ("gpt-35-turbo", Cl100k, 100),
            ("anthropic/claude-sonnet-4-5", O200k, 120),
            ("eu.anthropic.claude-opus-4", O200k, 120),
            ("models/gemini-2.5-flash", O200k, 105),
            ("llama3.2:latest", Cl100k, 100),
            ("qwen3:4b", Cl100k, 105),
            ("", O200k, 100),
            ("my-deployment", O200k, 100),
        ] {
            assert_eq!(Family::of(name), family(encoding, percent), "{name}");
        }
        assert_eq!(family(O200k, 120).scaled(1), 2);
        assert_eq!(family(O200k, 120).scaled(u64::MAX), u64::MAX.div_ceil(100));
    }
}
