//! The vocabularies, and counting by them within bounds.

use std::collections::HashSet;

use tiktoken_rs::CoreBPE;

/// Bytes that are taken apart at once. Some texts make the work grow with the square of their length, or exceed what the
/// expression for words may try: a blank a million times, a word without end.
const BLOCK: usize = 4096;

/// OpenAI's vocabularies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Of GPT-4o and all later models.
    O200k,
    /// Of GPT-4 and GPT-3.5.
    Cl100k,
}

/// The bytes that are counted for one question; more than any context window holds. What exceeds them is rated by its length.
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(8 * 1024 * 1024)
    }
}

impl Encoding {
    fn vocabulary(self) -> &'static CoreBPE {
        match self {
            Self::O200k => tiktoken_rs::o200k_base_singleton(),
            Self::Cl100k => tiktoken_rs::cl100k_base_singleton(),
        }
    }

    /// The tokens of a text. Words that stand for something in a prompt (`<|endoftext|>`) are text like any other, as
    /// providers take them.
    pub(super) fn count(self, text: &str, budget: &mut Budget) -> u64 {
        let (mut rest, mut tokens) = (text, 0);
        let none = HashSet::new();
        while !rest.is_empty() {
            let (block, after) = rest.split_at(cut(rest));
            if budget.0 < block.len() {
                return tokens + rated(rest);
            }
            budget.0 -= block.len();
            tokens += match self.vocabulary().count(block, &none) {
                Ok(count) => count as u64,
                Err(error) => {
                    tracing::debug!(%error, "a text can't be taken apart; it is rated by its length");
                    rated(block)
                }
            };
            rest = after;
        }
        tokens
    }
}

/// What a text is worth by its length: half of what English has to the token, so that it is rather too much.
fn rated(text: &str) -> u64 {
    text.len() as u64 / 2
}

/// Where the next block ends: before a word, where tokens part in any case, or else at a character.
fn cut(text: &str) -> usize {
    if text.len() <= BLOCK {
        return text.len();
    }
    let block = &text.as_bytes()[..BLOCK];
    let at_word = block
        .windows(2)
        .rposition(|two| two[1] == b' ' && !two[0].is_ascii_whitespace());
    match at_word {
        Some(before) => before + 1,
        None => text.floor_char_boundary(BLOCK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_end_before_words_or_between_characters() {
        assert_eq!(cut("short"), 5);
        let words = "word ".repeat(2_000);
        assert!(cut(&words) <= BLOCK && words[cut(&words)..].starts_with(" word"));
        let han = "语".repeat(3_000);
        assert_eq!(cut(&han), BLOCK / 3 * 3);
        assert_eq!(cut(&" ".repeat(10_000)), BLOCK);
    }

    #[test]
    fn what_exceeds_the_budget_is_rated() {
        let mut budget = Budget(5_000);
        let text = "a b ".repeat(3_000);
        let tokens = Encoding::O200k.count(&text, &mut budget);
        assert!((4_000..=8_192).contains(&tokens), "{tokens}");
        assert!(budget.0 < BLOCK);
    }
}
