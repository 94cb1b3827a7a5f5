//! What a provider is told to say and to do.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One thing that the provider does while it answers.
///
/// Status line and headers go out with the first step that puts something on the wire, so a `Delay` before it delays
/// them too; `Head` sends them alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Sends status line and headers now.
    Head,
    /// Says a piece of the answer.
    Text(String),
    /// Says a piece of what the model thinks.
    Reasoning(String),
    /// Begins a tool call.
    ToolCall {
        /// Place among the tool calls of this answer, from 0.
        index: u32,
        /// The provider's id of it.
        id: String,
        /// The tool.
        name: String,
    },
    /// Says a piece of a tool call's arguments.
    ToolArguments {
        /// Of which tool call.
        index: u32,
        /// A piece of JSON text.
        text: String,
    },
    /// What the call is said to have used, instead of a count made from prompt and steps. It goes out where the wire
    /// has its place, wherever this step stands.
    Usage(Usage),
    /// Waits, in milliseconds. Delays are kept on a schedule from the beginning of the answer, so many short ones
    /// don't add up to more than they should.
    Delay(u64),
    /// Waits until the test opens the gate of that name.
    WaitFor(String),
    /// Says nothing more and leaves the socket open, until the client leaves.
    Stall,
    /// Closes the socket.
    Drop,
    /// Sends half of a line and closes the socket.
    HalfLine,
    /// Ends the answer properly as far as HTTP goes, without a finish reason, usage or last event.
    End,
    /// Bytes of the body, as they are, in a chunk of their own.
    Raw(#[serde(with = "octets")] Vec<u8>),
    /// Bytes on the socket, as they are: past the framing of the body and, as a first step, in place of status line
    /// and headers.
    Unframed(#[serde(with = "octets")] Vec<u8>),
    /// Why the model stopped, in OpenAI's words (`stop`, `length`, `tool_calls`, `content_filter`), translated for
    /// the other wires; other words go out as they are. Left out: `tool_calls` if there are some, else `stop`.
    Finish(String),
    /// An error in the middle of a stream, and its end; the value is the error object of the wire.
    ErrorInStream(Value),
}

/// What a call used, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Usage {
    /// Read by the model, those from its cache included.
    pub input: u64,
    /// Written by the model, its thoughts included.
    pub output: u64,
    /// Of the input, read from the provider's cache.
    pub cached: u64,
    /// Of the output, thoughts.
    pub reasoning: u64,
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Turn {
    /// HTTP status. Below 300 the steps are an answer; else they only wait or break off, a `Text` is the message of
    /// the error, an `ErrorInStream` the error object, and a `Raw` the whole body.
    pub status: u16,
    /// Sent beside, or in place of, the usual ones.
    pub headers: BTreeMap<String, String>,
    /// In order.
    pub steps: Vec<Step>,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            status: 200,
            headers: BTreeMap::new(),
            steps: Vec::new(),
        }
    }
}

impl Turn {
    /// An answer made of these steps.
    pub fn of(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Says a text, word by word.
    pub fn text(text: &str) -> Self {
        Self::of(
            text.split_inclusive(' ')
                .map(|word| Step::Text(word.to_owned())),
        )
    }

    /// Says the tokens of [`expected_tokens`], waiting before each.
    pub fn tokens(prompt: &str, n: usize, every: Duration) -> Self {
        let wait = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        let steps = expected_tokens(prompt, n).into_iter().flat_map(|token| {
            [
                (wait > 0).then_some(Step::Delay(wait)),
                Some(Step::Text(token)),
            ]
        });
        Self::of(steps.flatten())
    }

    /// Asks for one tool, its arguments in two pieces.
    pub fn tool_call(id: &str, name: &str, arguments: &Value) -> Self {
        let text = arguments.to_string();
        let middle = (0..=text.len() / 2)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        let (first, second) = text.split_at(middle);
        Self::of([
            Step::ToolCall {
                index: 0,
                id: id.to_owned(),
                name: name.to_owned(),
            },
            Step::ToolArguments {
                index: 0,
                text: first.to_owned(),
            },
            Step::ToolArguments {
                index: 0,
                text: second.to_owned(),
            },
        ])
    }

    /// Refuses with a status and headers (`retry-after`).
    pub fn refuse(status: u16, headers: &[(&str, &str)]) -> Self {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Self {
            status,
            headers,
            steps: Vec::new(),
        }
    }
}

/// Which provider's wire a request came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// Chat completions, Azure's too.
    OpenAi,
    /// Messages.
    Anthropic,
    /// Contents.
    Gemini,
    /// Ollama's own chat.
    Ollama,
}

/// A request as a script sees it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The model's name.
    pub model: String,
    /// The wire it came over.
    pub wire: Wire,
    /// How many calls of this model came before it, since it was scripted.
    pub n: usize,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    /// As it came.
    pub body: Value,
}

impl Asked {
    /// The conversation, as the wire has it.
    pub fn messages(&self) -> &[Value] {
        let field = match self.wire {
            Wire::Gemini => "contents",
            Wire::OpenAi | Wire::Anthropic | Wire::Ollama => "messages",
        };
        self.body[field].as_array().map_or(&[], Vec::as_slice)
    }

    /// The text of the last message of a user that has some; empty when there is none.
    pub fn last_user_message(&self) -> String {
        let content = match self.wire {
            Wire::Gemini => "parts",
            Wire::OpenAi | Wire::Anthropic | Wire::Ollama => "content",
        };
        let texts = self
            .messages()
            .iter()
            .rev()
            .filter(|message| message["role"] == "user")
            .map(|message| text_of(&message[content]));
        texts
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default()
    }
}

/// The text of a message's content: one string, or those of its blocks joined.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks
            .iter()
            .filter_map(|block| block["text"].as_str())
            .collect(),
        _ => String::new(),
    }
}

/// What a model does, call by call.
#[derive(Clone)]
pub enum Script {
    /// The n-th call takes the n-th turn; the last is for all that follow.
    Turns(Vec<Turn>),
    /// Each call asks the function.
    Function(Arc<dyn Fn(&Asked) -> Turn + Send + Sync>),
}

impl Script {
    /// Always says this text, word by word.
    pub fn text(text: &str) -> Self {
        Turn::text(text).into()
    }

    /// Says `n` tokens made from the last message of the user, waiting before each. See [`expected_text`].
    pub fn tokens(n: usize, every: Duration) -> Self {
        Self::answer(move |asked| Turn::tokens(&asked.last_user_message(), n, every))
    }

    /// Always refuses with a status and headers.
    pub fn refuse(status: u16, headers: &[(&str, &str)]) -> Self {
        Turn::refuse(status, headers).into()
    }

    /// Answers as the function says.
    pub fn answer(function: impl Fn(&Asked) -> Turn + Send + Sync + 'static) -> Self {
        Self::Function(Arc::new(function))
    }

    /// The script of a model that nobody scripted, if its name is one: `tokens-<n>-<ms>`, at most a million tokens.
    pub(super) fn by_name(model: &str) -> Option<Self> {
        let (n, every) = model.strip_prefix("tokens-")?.split_once('-')?;
        let n = n.parse().ok().filter(|n| *n <= 1_000_000)?;
        Some(Self::tokens(n, Duration::from_millis(every.parse().ok()?)))
    }

    /// The turn for a request.
    pub(super) fn turn(&self, asked: &Asked) -> Turn {
        match self {
            Self::Turns(turns) => turns
                .get(asked.n)
                .or(turns.last())
                .cloned()
                .unwrap_or_default(),
            Self::Function(function) => function(asked),
        }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Turns(turns) => f.debug_tuple("Turns").field(turns).finish(),
            Self::Function(_) => f.write_str("Function"),
        }
    }
}

impl From<Turn> for Script {
    fn from(turn: Turn) -> Self {
        Self::Turns(vec![turn])
    }
}

impl<const N: usize> From<[Turn; N]> for Script {
    fn from(turns: [Turn; N]) -> Self {
        Self::Turns(turns.into())
    }
}

impl From<Vec<Turn>> for Script {
    fn from(turns: Vec<Turn>) -> Self {
        Self::Turns(turns)
    }
}

/// Words of one, two and three bytes a letter and one outside the basic plane, as positions in text count UTF-16
/// code units and somebody might count something else.
const WORDS: [&str; 12] = [
    "loom", "shuttle", "über", "warp", "语言", "heddle", "🧵", "selvage", "naïve", "reed", "織物",
    "bobbin",
];

/// The tokens that a model answers with: a function of the prompt and the number alone. Each carries its own number,
/// so that one lost, said twice or out of its place can't go unnoticed.
pub fn expected_tokens(prompt: &str, n: usize) -> Vec<String> {
    // FNV-1a: the same on every machine and in every version, unlike the standard library's.
    let seed = prompt
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    let mut state = seed | 1;
    (0..n)
        .map(|at| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let word = usize::try_from(state % WORDS.len() as u64).map_or("", |word| WORDS[word]);
            format!("{}{word}{at}", if at == 0 { "" } else { " " })
        })
        .collect()
}

/// The text that `n` tokens make for a prompt.
pub fn expected_text(prompt: &str, n: usize) -> String {
    expected_tokens(prompt, n).concat()
}

/// Bytes in JSON: a string where they are one, else a list of numbers.
mod octets {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Octets {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => text.serialize(serializer),
            Err(_) => bytes.serialize(serializer),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Ok(match Octets::deserialize(deserializer)? {
            Octets::Text(text) => text.into_bytes(),
            Octets::Bytes(bytes) => bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_turn_reads_as_it_is_written() {
        let turn = Turn {
            status: 503,
            headers: [("retry-after".to_owned(), "1".to_owned())].into(),
            steps: vec![
                Step::Text("a".into()),
                Step::ToolCall {
                    index: 0,
                    id: "call_1".into(),
                    name: "look".into(),
                },
                Step::Raw(vec![0xff, 0]),
                Step::Raw(b"data: x".to_vec()),
                Step::Stall,
                Step::Usage(Usage {
                    input: 3,
                    ..Usage::default()
                }),
                Step::ErrorInStream(json!({"message": "no"})),
            ],
        };
        let text = serde_json::to_string(&turn).unwrap();
        assert_eq!(serde_json::from_str::<Turn>(&text).unwrap(), turn);
        let short: Turn =
            serde_json::from_value(json!({"steps": [{"text": "hi"}, {"delay": 5}, "drop"]}))
                .unwrap();
        assert_eq!(
            short,
            Turn::of([Step::Text("hi".into()), Step::Delay(5), Step::Drop])
        );
    }

    #[test]
    fn tokens_are_a_function_of_prompt_and_number() {
        assert_eq!(expected_text("hello", 40), expected_text("hello", 40));
        assert_ne!(expected_text("hello", 40), expected_text("hellp", 40));
        assert!(expected_text("hello", 40).starts_with(&expected_text("hello", 7)));
        assert!(Script::by_name("tokens-3-0").is_some());
        assert!(Script::by_name("tokens-3").is_none());
        assert!(Script::by_name("tokens-99999999999-1").is_none());
    }

    #[test]
    fn finds_the_last_user_message_of_every_wire() {
        let by = |wire, body| Asked {
            model: "m".into(),
            wire,
            n: 0,
            headers: BTreeMap::new(),
            body,
        };
        let asked = |messages| by(Wire::OpenAi, json!({"messages": messages}));
        let plain = asked(
            json!([{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]),
        );
        assert_eq!(plain.last_user_message(), "one");
        let blocks = asked(json!([
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "c"}]},
        ]));
        assert_eq!(blocks.last_user_message(), "ab");
        assert_eq!(asked(json!(null)).last_user_message(), "");
        let parts = json!({"contents": [
            {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f"}}]},
        ]});
        assert_eq!(by(Wire::Gemini, parts).last_user_message(), "ab");
    }
}
