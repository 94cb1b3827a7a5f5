//! The built-in chat model: no language model, but a search that quotes. It answers with the sentences that share most
//! with the question, out of the passages given or, without any, out of the conversation itself, and says so.
//!
//! Sentences are ranked as BM25 ranks documents (k1 1.2, b 0.75), over words, and over pairs of characters where a
//! script has no spaces. The same request gives the same answer.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::chat::{Answer, ChatEvent, ChatMessage, ChatModel, ChatRequest, TokenUsage};
use crate::error::ModelError;
use crate::failed;

/// The name of the built-in chat model.
pub const EXTRACTIVE: &str = "extractive";

/// How every answer begins.
const NOTICE: &str = "This is an extractive answer: no language model wrote it, it quotes what fits the question best.";
/// Characters of one quotation, roughly: whole sentences as far as they fit.
const QUOTE_CHARS: usize = 480;
/// Quotations in one answer.
const QUOTES: usize = 3;
/// Of all sources together, what is looked at.
const MAX_SOURCE_BYTES: usize = 1024 * 1024;
/// Of the question's different terms, what is looked for.
const MAX_TERMS: usize = 256;

/// The extractive model.
pub(crate) struct Extractive {
    known: bool,
}

impl Extractive {
    pub(crate) fn new(model_name: &str) -> Self {
        Self {
            known: model_name == EXTRACTIVE,
        }
    }
}

/// The error for a built-in model that isn't there.
pub(crate) fn unknown() -> ModelError {
    ModelError::unsupported("the only built-in chat model is \"extractive\"")
}

#[async_trait]
impl ChatModel for Extractive {
    async fn stream(
        &self,
        request: ChatRequest,
    ) -> BoxStream<'static, Result<ChatEvent, ModelError>> {
        if !self.known {
            return failed(unknown());
        }
        let answer = answer(&request);
        let pieces: Vec<String> = pieces(&answer.text).map(str::to_owned).collect();
        let texts = stream::iter(pieces).then(|piece| async move {
            // as if it came from afar: others have their turn between two pieces
            tokio::task::yield_now().await;
            Ok(ChatEvent::Text(piece))
        });
        texts
            .chain(stream::iter([Ok(ChatEvent::Finished(answer))]))
            .boxed()
    }
}

fn answer(request: &ChatRequest) -> Answer {
    let mut text = compose(request).replace('\0', "");
    let mut finish_reason = "stop";
    if let Some(limit) = request.max_output_tokens {
        let length: usize = pieces(&text).take(limit as usize).map(str::len).sum();
        if length < text.len() {
            text.truncate(length);
            finish_reason = "length";
        }
    }
    let read = request
        .messages
        .iter()
        .map(words_of)
        .chain(request.passages.iter().map(|passage| passage.text.as_str()));
    let input: usize = read
        .chain(request.system.as_deref())
        .map(|text| pieces(text).count())
        .sum();
    let usage = TokenUsage {
        input: input as u64,
        output: pieces(&text).count() as u64,
        ..TokenUsage::default()
    };
    Answer {
        text,
        finish_reason: finish_reason.to_owned(),
        usage: Some(usage),
        ..Answer::default()
    }
}

fn words_of(message: &ChatMessage) -> &str {
    match message {
        ChatMessage::User { text } | ChatMessage::Assistant { text, .. } => text,
        ChatMessage::ToolResult { content, .. } => content,
    }
}

/// Text that may be quoted.
struct Source<'a> {
    /// How it is referred to.
    label: String,
    text: &'a str,
}

fn compose(request: &ChatRequest) -> String {
    let asked = request
        .messages
        .iter()
        .rposition(|message| matches!(message, ChatMessage::User { .. }));
    let question = asked
        .map(|place| words_of(&request.messages[place]))
        .unwrap_or_default();
    let mut sources: Vec<Source<'_>> = Vec::new();
    for (place, passage) in request.passages.iter().enumerate() {
        let title = passage.title.trim();
        let number = place + 1;
        let label = if title.is_empty() {
            format!("[{number}]")
        } else {
            format!("[{number}] {title}")
        };
        sources.push(Source {
            label,
            text: &passage.text,
        });
    }
    let from_passages = !sources.is_empty();
    if !from_passages {
        // the newest first, should there be more than is looked at; its own answers are no source
        let earlier = request
            .messages
            .iter()
            .enumerate()
            .rev()
            .filter(|(place, _)| Some(*place) != asked);
        sources.extend(earlier.map(|(_, message)| message).filter_map(|message| {
            let text = words_of(message);
            let label = match message {
                ChatMessage::User { .. } => "from your earlier message".to_owned(),
                ChatMessage::Assistant { .. } => "from an earlier answer".to_owned(),
                ChatMessage::ToolResult { name, .. } => format!("from the tool {name}"),
            };
            (!text.trim().is_empty() && !text.starts_with(NOTICE)).then_some(Source { label, text })
        }));
    }
    let quotes = best(question, &sources);
    let mut out = NOTICE.to_owned();
    if quotes.is_empty() {
        let first = match sources.first() {
            Some(source) if from_passages => {
                out.push_str(" Nothing shares a word with the question; this was found for it:");
                quote_of(source.text).map(|quote| (quote, Some(&source.label)))
            }
            _ if question.trim().is_empty() => None,
            _ => {
                out.push_str(
                    " There is nothing here yet that it could quote but the question itself:",
                );
                quote_of(question).map(|quote| (quote, None))
            }
        };
        match first {
            Some((quote, label)) => push_quote(&mut out, quote, label.map(String::as_str)),
            None => out.push_str(" There is nothing to quote."),
        }
    }
    for (quote, source) in quotes {
        push_quote(&mut out, quote, Some(&source.label));
    }
    out
}

fn push_quote(out: &mut String, quote: &str, label: Option<&str>) {
    out.push_str("\n\n");
    for (place, line) in quote
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .enumerate()
    {
        out.push_str(if place == 0 { "> " } else { "\n> " });
        out.push_str(line);
    }
    if let Some(label) = label {
        out.push_str("\n\n— ");
        out.push_str(label);
    }
}

/// The beginning of a text that has any.
fn quote_of(text: &str) -> Option<&str> {
    segments(text).next()
}

/// The segments that fit the question best, those that share a term with it only; the best first.
fn best<'a>(question: &str, sources: &'a [Source<'a>]) -> Vec<(&'a str, &'a Source<'a>)> {
    let mut asked = BTreeSet::new();
    for term in terms(question) {
        if asked.len() < MAX_TERMS {
            asked.insert(term);
        }
    }
    let mut room = MAX_SOURCE_BYTES;
    let mut candidates = Vec::new();
    let all = sources
        .iter()
        .flat_map(|source| segments(source.text).map(move |text| (text, source)));
    for (text, source) in all {
        let Some(left) = room.checked_sub(text.len()) else {
            break;
        };
        room = left;
        candidates.push(Candidate::new(text, source, &asked));
    }
    let total: usize = candidates.iter().map(|candidate| candidate.length).sum();
    let average = total as f64 / candidates.len().max(1) as f64;
    let mut weights: Vec<(&String, f64)> = Vec::new();
    for term in &asked {
        let with = candidates
            .iter()
            .filter(|candidate| candidate.counts.contains_key(term))
            .count() as f64;
        weights.push((
            term,
            (1.0 + (candidates.len() as f64 - with + 0.5) / (with + 0.5)).ln(),
        ));
    }
    let mut ranked: Vec<(f64, Candidate<'_>)> = candidates
        .into_iter()
        .map(|candidate| (candidate.score(&weights, average), candidate))
        .collect();
    ranked.retain(|(score, _)| *score > 0.0);
    // stable, so that of equals the earlier stays first
    ranked.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let mut seen = BTreeSet::new();
    ranked.retain(|(_, candidate)| seen.insert(candidate.text));
    ranked
        .into_iter()
        .take(QUOTES)
        .map(|(_, candidate)| (candidate.text, candidate.source))
        .collect()
}

struct Candidate<'a> {
    text: &'a str,
    source: &'a Source<'a>,
    /// How often each term of the question occurs.
    counts: HashMap<String, f64>,
    /// Terms in all.
    length: usize,
}

impl<'a> Candidate<'a> {
    fn new(text: &'a str, source: &'a Source<'a>, asked: &BTreeSet<String>) -> Self {
        let all = terms(text);
        let length = all.len();
        let mut counts = HashMap::new();
        for term in all.into_iter().filter(|term| asked.contains(term)) {
            *counts.entry(term).or_insert(0.0) += 1.0;
        }
        Self {
            text,
            source,
            counts,
            length,
        }
    }

    fn score(&self, weights: &[(&String, f64)], average: f64) -> f64 {
        let (k1, b) = (1.2, 0.75);
        let norm = k1 * (1.0 - b + b * self.length as f64 / average.max(1.0));
        let score = |(term, weight): &(&String, f64)| {
            let count = self.counts.get(*term)?;
            Some(weight * count * (k1 + 1.0) / (count + norm))
        };
        weights.iter().filter_map(score).sum()
    }
}

/// Words in lower case; of scripts without spaces each pair of neighbours, and a character that stands alone.
fn terms(text: &str) -> Vec<String> {
    let mut terms = Vec::new();
    let mut word = String::new();
    let mut before: Option<char> = None;
    let mut paired = false;
    // a blank at the end closes the last word and the last run
    for char in text.chars().chain([' ']) {
        if is_spaceless(char) {
            if !word.is_empty() {
                terms.push(std::mem::take(&mut word));
            }
            match before {
                Some(before) => {
                    terms.push([before, char].iter().collect());
                    paired = true;
                }
                None => paired = false,
            }
            before = Some(char);
            continue;
        }
        if let Some(alone) = before.take().filter(|_| !paired) {
            terms.push(alone.to_string());
        }
        if char.is_alphanumeric() {
            word.extend(char.to_lowercase());
        } else if !word.is_empty() {
            terms.push(std::mem::take(&mut word));
        }
    }
    terms
}

/// Chinese, Japanese, Korean and Thai letters.
fn is_spaceless(char: char) -> bool {
    matches!(char,
        '\u{0e00}'..='\u{0e7f}' | '\u{3041}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3134f}')
}

/// Sentences in their order, gathered up to [`QUOTE_CHARS`] within a paragraph; a longer sentence is cut.
fn segments(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        if rest.is_empty() {
            return None;
        }
        let (segment, after) = rest.split_at(segment_end(rest));
        rest = after;
        Some(segment.trim_end())
    })
}

fn segment_end(text: &str) -> usize {
    let mut sentence = None;
    let mut blank = None;
    let mut chars = text.char_indices().peekable();
    let mut count = 0;
    while let Some((place, char)) = chars.next() {
        let after = place + char.len_utf8();
        let next = chars.peek().map(|(_, next)| *next);
        count += 1;
        if char == '\n' && next == Some('\n') {
            return after;
        }
        let ends = matches!(char, '。' | '!' | '?' | '！' | '？' | '\n')
            || (char == '.' && next.is_none_or(char::is_whitespace));
        if ends {
            sentence = Some(after);
        } else if char.is_whitespace() {
            blank = Some(after);
        }
        if count == QUOTE_CHARS {
            return sentence.or(blank).unwrap_or(after);
        }
    }
    text.len()
}

/// Words with the space after them; of scripts without spaces single characters. Joined they are the text.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut end = 0;
        let mut in_space = false;
        for (place, char) in rest.char_indices() {
            if place > 0 && !char.is_whitespace() && (in_space || is_spaceless(char)) {
                break;
            }
            end = place + char.len_utf8();
            in_space = char.is_whitespace() || is_spaceless(char);
        }
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Passage;

    fn said(text: &str) -> ChatMessage {
        ChatMessage::User {
            text: text.to_owned(),
        }
    }

    fn passage(title: &str, text: &str) -> Passage {
        Passage {
            title: title.to_owned(),
            text: text.to_owned(),
        }
    }

    async fn stream_of(request: ChatRequest) -> Vec<ChatEvent> {
        let stream = Extractive::new(EXTRACTIVE).stream(request).await;
        stream.map(|item| item.expect("no error")).collect().await
    }

    #[tokio::test]
    async fn the_best_passages_are_quoted_and_the_rest_is_not() {
        let request = ChatRequest {
            messages: vec![said("How long is the warranty of the pump?")],
            passages: vec![
                passage(
                    "Shipping",
                    "We ship within two days. The parcel is insured.",
                ),
                passage(
                    "Warranty",
                    "The pump comes with a warranty of three years.\nKeep the invoice.",
                ),
                passage("", "Pumps are tested."),
            ],
            ..ChatRequest::default()
        };
        let events = stream_of(request.clone()).await;
        let Some(ChatEvent::Finished(answer)) = events.last() else {
            panic!("no end")
        };
        assert!(answer.text.starts_with("This is an extractive answer: "));
        let quoted = "\n\n> The pump comes with a warranty of three years.\n> Keep the invoice.\n\n— [2] Warranty";
        assert!(
            answer.text[NOTICE.len()..].starts_with(quoted),
            "{}",
            answer.text
        );
        assert!(!answer.text.contains("tested"));
        let texts = events.iter().filter_map(|event| match event {
            ChatEvent::Text(text) => Some(text.as_str()),
            _ => None,
        });
        assert_eq!(texts.collect::<String>(), answer.text);
        assert!(events.len() > 20);
        assert_eq!(answer.usage.map(|usage| usage.input), Some(8 + 9 + 12 + 3));
        assert_eq!(stream_of(request).await, events);
    }

    #[test]
    fn chinese_is_found_by_pairs() {
        let request = ChatRequest {
            messages: vec![said("水泵的保修期多长?")],
            passages: vec![
                passage("一", "我们在两天内发货。"),
                passage("二", "该水泵享有三年保修期。"),
            ],
            ..ChatRequest::default()
        };
        let text = answer(&request).text;
        assert!(
            text.contains("> 该水泵享有三年保修期。") && !text.contains("发货"),
            "{text}"
        );
    }

    #[test]
    fn without_passages_the_conversation_is_quoted() {
        let own = ChatMessage::Assistant {
            text: format!("{NOTICE} lamp"),
            reasoning: vec![],
            tool_calls: vec![],
        };
        let mut request = ChatRequest {
            messages: vec![
                said("The lamp is in the attic."),
                own,
                said("Where is the lamp?"),
            ],
            ..ChatRequest::default()
        };
        let text = answer(&request).text;
        assert_eq!(
            text,
            format!("{NOTICE}\n\n> The lamp is in the attic.\n\n— from your earlier message")
        );
        request.messages.drain(..2);
        assert!(answer(&request).text.ends_with("\n\n> Where is the lamp?"));
        request.messages.clear();
        assert!(
            answer(&request)
                .text
                .ends_with("There is nothing to quote.")
        );
        request.passages.push(passage("A", "Nothing of it."));
        request.messages.push(said("???"));
        assert!(
            answer(&request)
                .text
                .ends_with("> Nothing of it.\n\n— [1] A")
        );
    }

    #[test]
    fn a_limit_cuts() {
        let request = ChatRequest {
            max_output_tokens: Some(3),
            messages: vec![said("x")],
            ..ChatRequest::default()
        };
        let answer = answer(&request);
        assert_eq!(
            (answer.text.as_str(), answer.finish_reason.as_str()),
            ("This is an ", "length")
        );
        assert_eq!(answer.usage.map(|usage| usage.output), Some(3));
    }

    #[test]
    fn text_is_cut_at_sentences_and_nothing_is_lost() {
        let text = format!(
            "{}Short. 短。 \n\nNext paragraph. {}",
            "A sentence of words. ".repeat(40),
            "x".repeat(2000)
        );
        let cut: Vec<&str> = segments(&text).collect();
        assert!(
            cut.iter()
                .all(|segment| segment.chars().count() <= QUOTE_CHARS)
        );
        assert!(cut[0].ends_with("words."));
        assert!(cut.contains(&"Next paragraph."));
        assert_eq!(pieces(&text).collect::<String>(), text);
        assert_eq!(
            pieces(" a  b\n短文 c").collect::<Vec<_>>(),
            [" ", "a  ", "b\n", "短", "文 ", "c"]
        );
        assert_eq!(
            terms("Été 2x; 短文库 短"),
            ["été", "2x", "短文", "文库", "短"]
        );
        assert_eq!(segments(" \n ").count(), 0);
    }

    #[tokio::test]
    async fn there_is_one_built_in_model() {
        let mut stream = Extractive::new("gpt").stream(ChatRequest::default()).await;
        assert_eq!(stream.next().await, Some(Err(unknown())));
        assert_eq!(stream.next().await, None);
    }
}
