//! Cutting text into the terms by which it is found, the same for what is written and for what is asked.
//!
//! Words are runs of letters and digits, whatever the language. Case, compatibility forms (Unicode Standard Annex 15, NFKC) and the
//! accents of Latin, Greek and Cyrillic, of Arabic and of Hebrew make no difference. Scripts that put no space between words, and
//! Hangul, whose particles hang on words, are cut into overlapping pairs of letters.

use std::collections::BTreeSet;

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Letters of the longest term; a longer word is found by its beginning.
const LONGEST: usize = 64;
/// Terms of one text.
const MOST: usize = 10_000;
/// Bytes of them in all: PostgreSQL has a mebibyte for a text.
const BYTES: usize = 512 * 1024;
/// Terms of one question.
const ASKED: usize = 50;

/// The terms of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms(BTreeSet<String>);

/// What is looked for: texts that have all of these terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    whole: BTreeSet<String>,
    /// The beginning of a term: of the word that is being typed.
    beginning: Option<String>,
}

impl Terms {
    /// Of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut terms = BTreeSet::new();
        let mut bytes = 0;
        for term in runs(text).flat_map(Run::terms) {
            let size = term.len();
            if terms.len() >= MOST || bytes + size > BYTES {
                break;
            }
            if terms.insert(term) {
                bytes += size;
            }
        }
        Self(terms)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// With one more.
    #[must_use]
    pub fn and(mut self, term: String) -> Self {
        self.0.insert(term);
        self
    }

    /// As PostgreSQL reads a `tsvector`.
    #[must_use]
    pub fn tsvector(&self) -> String {
        let quoted: Vec<_> = self.0.iter().map(|term| format!("'{term}'")).collect();
        quoted.join(" ")
    }

    /// With spaces between them.
    #[must_use]
    pub fn spaced(&self) -> String {
        let terms: Vec<_> = self.0.iter().map(String::as_str).collect();
        terms.join(" ")
    }
}

impl Asked {
    /// What a person types; `None` where there is nothing to look for in it.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let is_finished = text.chars().next_back().is_some_and(char::is_whitespace);
        let mut all: Vec<_> = runs(text).take(ASKED).collect();
        let last = all.pop()?;
        let mut asked = Self {
            whole: BTreeSet::new(),
            beginning: None,
        };
        for run in all {
            asked.add(run);
        }
        match last {
            Run::Word(word) if !is_finished => asked.beginning = Some(word),
            last => asked.add(last),
        }
        Some(asked)
    }

    fn add(&mut self, run: Run) {
        match run {
            Run::Word(word) => {
                self.whole.insert(word);
            }
            Run::Unspaced(letters) => match letters[..] {
                // The first letter of a pair, or alone at an end.
                [letter] => self.beginning = Some(letter.to_string()),
                _ => self.whole.extend(pairs(&letters)),
            },
        }
    }

    /// As PostgreSQL reads a `tsquery`, with one of several more terms; of none there are none.
    #[must_use]
    pub fn tsquery(&self, one_of: &[String]) -> String {
        let mut parts: Vec<_> = self.whole.iter().map(|term| format!("'{term}'")).collect();
        parts.extend(either(one_of, '\'', " | "));
        parts.extend(self.beginning.as_ref().map(|term| format!("'{term}':*")));
        parts.join(" & ")
    }

    /// As SQLite's FTS5 reads a query, with one of several more terms; of none there are none.
    #[must_use]
    pub fn fts5(&self, one_of: &[String]) -> String {
        let mut parts: Vec<_> = self
            .whole
            .iter()
            .map(|term| format!("\"{term}\""))
            .collect();
        parts.extend(either(one_of, '"', " OR "));
        parts.extend(self.beginning.as_ref().map(|term| format!("\"{term}\"*")));
        parts.join(" AND ")
    }
}

/// One of these; `None`: there are none.
fn either(terms: &[String], quote: char, or: &str) -> Option<String> {
    let quoted = terms.iter().map(|term| format!("{quote}{term}{quote}"));
    let quoted: Vec<_> = quoted.collect();
    match quoted.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(format!("({})", several.join(or))),
    }
}

/// Letters that stand together.
enum Run {
    /// A word.
    Word(String),
    /// Of a script that puts no spaces between words.
    Unspaced(Vec<char>),
}

impl Run {
    /// One by one: of a long run not all are taken.
    fn terms(self) -> impl Iterator<Item = String> {
        let (word, letters) = match self {
            Self::Word(word) => (Some(word), Vec::new()),
            Self::Unspaced(letters) => (None, letters),
        };
        // A pair from each letter on, and the last one alone, so that each letter begins some term.
        let pairs = (0..letters.len())
            .map(move |at| letters[at..letters.len().min(at + 2)].iter().collect());
        word.into_iter().chain(pairs)
    }
}

fn runs(text: &str) -> impl Iterator<Item = Run> {
    let mut letters = text
        .nfkd()
        .filter(|&letter| !is_accent(letter))
        .nfc()
        .flat_map(char::to_lowercase)
        // Of "İ" in lower case, and the like.
        .filter(|&letter| !is_accent(letter))
        .flat_map(folded)
        .peekable();
    std::iter::from_fn(move || {
        while letters.next_if(|&letter| !is_of_a_word(letter)).is_some() {}
        let first = letters.next()?;
        if is_unspaced(first) {
            let mut run = vec![first];
            while let Some(letter) =
                letters.next_if(|&letter| is_unspaced(letter) || is_combining_mark(letter))
            {
                run.push(letter);
            }
            return Some(Run::Unspaced(run));
        }
        let mut word = String::from(first);
        let mut length = 1;
        while let Some(letter) =
            letters.next_if(|&letter| is_of_a_word(letter) && !is_unspaced(letter))
        {
            if length < LONGEST {
                word.push(letter);
            }
            length += 1;
        }
        Some(Run::Word(word))
    })
}

fn pairs(letters: &[char]) -> impl Iterator<Item = String> {
    letters.windows(2).map(|pair| pair.iter().collect())
}

/// Letters and digits, and the marks on them. None of these means anything to PostgreSQL or FTS5 within quotes.
fn is_of_a_word(letter: char) -> bool {
    letter.is_alphanumeric() || is_combining_mark(letter)
}

/// Letters that are written otherwise by some.
fn folded(letter: char) -> impl Iterator<Item = char> {
    let (first, second) = match letter {
        'ß' => ('s', Some('s')),
        'ı' => ('i', None),
        'ς' => ('σ', None),
        'ø' => ('o', None),
        'ł' => ('l', None),
        'đ' => ('d', None),
        letter => (letter, None),
    };
    [Some(first), second].into_iter().flatten()
}

/// Combining diacritical marks, the points of Hebrew and the vowel signs of Arabic.
fn is_accent(letter: char) -> bool {
    matches!(letter, '\u{300}'..='\u{36f}' | '\u{591}'..='\u{5c7}' | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}' | '\u{670}' | '\u{640}')
}

/// Thai, Lao, Tibetan, Myanmar, Khmer, kana, Han, Hangul, Yi.
fn is_unspaced(letter: char) -> bool {
    matches!(letter,
        '\u{e00}'..='\u{eff}' | '\u{f00}'..='\u{fff}' | '\u{1000}'..='\u{109f}' | '\u{1100}'..='\u{11ff}' | '\u{1780}'..='\u{17ff}'
        | '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{a000}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
        && is_of_a_word(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a text would be found.
    fn finds(asked: &str, text: &str) -> bool {
        let Some(asked) = Asked::of(asked) else {
            return false;
        };
        let terms = Terms::of(text).0;
        asked.whole.is_subset(&terms)
            && asked
                .beginning
                .is_none_or(|beginning| terms.iter().any(|term| term.starts_with(&beginning)))
    }

    #[test]
    fn what_finds_what() {
        for (asked, text) in [
            ("weaver", "The Weaver's loom"),
            ("WEAV", "the weaver"),
            ("strasse", "Die Straße"),
            ("STRASSE", "die straße"),
            ("istanbul", "İSTANBUL"),
            ("cafe", "Café"),
            ("café", "cafe"),
            ("ΟΔΟΣ", "οδος"),
            ("ﬁle", "file"),
            ("北京", "我在北京大学读书"),
            ("京", "我在北京"),
            ("北京大学", "北京大学"),
            ("読", "本を読む"),
            ("カタ", "ｶﾀｶﾅ"),
            ("한국", "한국어를"),
            ("ภาษา", "ภาษาไทย"),
            ("हिन्दी", "हिन्दी भाषा"),
            ("سلام", "سَلَام"),
            ("שלום", "שָׁלוֹם"),
            ("gpt-4", "use GPT-4 today"),
            ("4 today", "use GPT-4 today"),
            ("naïve 北京", "naive plans for 北京"),
        ] {
            assert!(
                finds(asked, text),
                "{asked} in {text}: {:?}",
                Terms::of(text)
            );
        }
        for (asked, text) in [
            ("weaver ", "weavers"),
            ("loom wool", "a loom"),
            ("京北", "北京"),
            ("", "anything"),
            ("!? …", "anything"),
            ("🧵", "🧵"),
        ] {
            assert!(!finds(asked, text), "{asked} in {text}");
        }
    }

    #[test]
    fn what_is_asked_can_not_break_out() {
        for hostile in [
            "' | !'",
            "\" OR \"",
            "a'b",
            "a\\'b",
            "a:*b",
            "NEAR(a b)",
            "a NOT b",
            "-a",
            "^a",
            "{col}: a",
            "a\u{0}b",
            "((",
            "*",
        ] {
            if let Some(asked) = Asked::of(hostile) {
                for (written, quote) in [
                    (asked.tsquery(&["x".into()]), '\''),
                    (asked.fts5(&["x".into()]), '"'),
                ] {
                    let outside: String = written.split(quote).step_by(2).collect();
                    assert!(
                        outside.chars().all(|letter| " &AND:*".contains(letter)),
                        "{hostile}: {written}"
                    );
                    let mut inside = written.split(quote).skip(1).step_by(2);
                    assert!(
                        inside.all(|term| term.chars().all(is_of_a_word)),
                        "{written}"
                    );
                }
            }
        }
    }

    fn letter(number: u32) -> Option<char> {
        char::from_u32(0x20000 + number)
    }

    #[test]
    fn bounded() {
        let word = Terms::of(&"x".repeat(200_000));
        assert_eq!(word.0.first().map(String::len), Some(LONGEST));
        let many: String = (0..100_000).map(|n| format!("{n} ")).collect();
        assert!(Terms::of(&many).0.len() <= MOST);
        // One run of 200,000 letters, no pair of them twice.
        let han: String = (0..447u32)
            .flat_map(|a| (0..447).filter_map(move |b| Some([letter(a)?, letter(500 + b)?])))
            .flatten()
            .collect();
        assert!(Terms::of(&han).0.len() <= MOST);
        let wide: String = (0..20_000)
            .map(|n| format!("{n:05}{} ", "\u{10330}".repeat(59)))
            .collect();
        let bytes: usize = Terms::of(&wide).0.iter().map(String::len).sum();
        assert!((BYTES / 2..=BYTES).contains(&bytes), "{bytes}");
        let long: String = (0..1000).map(|n| format!("w{n} ")).collect();
        assert!(Asked::of(&long).is_some_and(|asked| asked.whole.len() <= ASKED));
    }
}
