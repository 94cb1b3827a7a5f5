//! Plays a turn to a client, step by step.

use std::{future::Future, io};

use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::{
    anthropic, gemini,
    http::{Connection, chunk, head},
    ollama, openai,
    script::{Asked, Step, Turn, Usage, Wire},
    server::{Shared, Side},
};

/// Ends a body in the chunked coding.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// How a wire says things in a stream.
pub(super) trait Speech: Send {
    /// A step that says something, as events of the wire. `later` is what follows it.
    fn say(&mut self, step: &Step, later: &[Step]) -> String;
    /// What ends an answer: the reason, the usage, the last event.
    fn end(&mut self) -> String;
}

/// How an answer ended.
pub(super) enum End {
    /// Wholly sent; the connection can take another request or, if false, can't.
    Finished(bool),
    /// Somebody broke it off.
    Dropped(Side),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Dropped(Side::Client)
    }
}

/// One answer being given.
pub(super) struct Play<'a> {
    pub(super) connection: &'a mut Connection,
    pub(super) shared: &'a Shared,
    /// The call's number.
    pub(super) number: u64,
    pub(super) asked: &'a Asked,
    pub(super) turn: &'a Turn,
    is_streamed: bool,
    head_sent: bool,
    /// Something went out past the framing.
    is_broken: bool,
    /// Where the schedule of delays stands.
    at: Instant,
}

impl<'a> Play<'a> {
    pub(super) fn new(
        connection: &'a mut Connection,
        shared: &'a Shared,
        number: u64,
        asked: &'a Asked,
        turn: &'a Turn,
        is_streamed: bool,
    ) -> Self {
        Self {
            connection,
            shared,
            number,
            asked,
            turn,
            is_streamed,
            head_sent: false,
            is_broken: false,
            at: Instant::now(),
        }
    }

    /// Plays it to its end.
    pub(super) async fn run(mut self) -> End {
        let played = if self.turn.status < 300 && self.is_streamed {
            self.stream().await
        } else {
            self.whole().await
        };
        match played {
            Ok(()) => End::Finished(!self.is_broken),
            Err(end) => end,
        }
    }

    async fn stream(&mut self) -> Result<(), End> {
        let usage = self.usage();
        let model = &self.asked.model;
        let mut speech: Box<dyn Speech> = match self.asked.wire {
            Wire::OpenAi => Box::new(openai::Stream::new(
                self.number,
                model,
                &self.asked.body,
                usage,
            )),
            Wire::Anthropic => Box::new(anthropic::Stream::new(self.number, model, usage)),
            Wire::Gemini => Box::new(gemini::Stream::new(self.number, model, usage)),
            Wire::Ollama => Box::new(ollama::Stream::new(model, usage)),
        };
        let turn = self.turn;
        let mut has_ended = false;
        for (at, step) in turn.steps.iter().enumerate() {
            match step {
                Step::Head => self.head().await?,
                Step::Raw(bytes) => self.body(bytes).await?,
                Step::HalfLine => {
                    self.body(match self.asked.wire {
                        Wire::OpenAi | Wire::Anthropic => {
                            b"data: {\"id\":\"half\",\"cho".as_slice()
                        }
                        Wire::Gemini => b"data: {\"candidates\":[{\"cont",
                        Wire::Ollama => b"{\"model\":\"half\",\"mess",
                    })
                    .await?;
                    return Err(End::Dropped(Side::Script));
                }
                Step::End => {
                    has_ended = true;
                    break;
                }
                Step::Delay(_)
                | Step::WaitFor(_)
                | Step::Stall
                | Step::Drop
                | Step::Unframed(_) => self.act(step).await?,
                said => {
                    has_ended |= matches!(said, Step::ErrorInStream(_));
                    let events = speech.say(said, &turn.steps[at + 1..]);
                    self.body(events.as_bytes()).await?;
                }
            }
        }
        if !has_ended {
            self.body(speech.end().as_bytes()).await?;
        }
        self.head().await?;
        Ok(self.connection.send(LAST_CHUNK).await?)
    }

    /// A refusal, or an answer that was not asked for as a stream.
    async fn whole(&mut self) -> Result<(), End> {
        let turn = self.turn;
        let (mut raw, mut is_half) = (Vec::new(), false);
        for step in &turn.steps {
            match step {
                Step::Raw(bytes) => raw.extend(bytes),
                Step::HalfLine => is_half = true,
                said => self.act(said).await?,
            }
        }
        let body = if raw.is_empty() {
            self.whole_body().to_string().into_bytes()
        } else {
            raw
        };
        self.shared.sent(self.number, body.len());
        if is_half {
            let length = body.len().to_string();
            let head = head(
                turn.status,
                &turn.headers,
                &[
                    ("content-type", "application/json"),
                    ("content-length", &length),
                ],
            );
            self.connection.send(&head).await?;
            self.connection.send(&body[..body.len() / 2]).await?;
            return Err(End::Dropped(Side::Script));
        }
        Ok(self
            .connection
            .answer(turn.status, &turn.headers, &body)
            .await?)
    }

    fn whole_body(&self) -> Value {
        let steps = &self.turn.steps;
        if self.turn.status < 300 {
            return match self.asked.wire {
                Wire::OpenAi => openai::whole(self.number, &self.asked.model, steps, self.usage()),
                Wire::Anthropic => {
                    anthropic::whole(self.number, &self.asked.model, steps, self.usage())
                }
                Wire::Gemini => gemini::whole(self.number, &self.asked.model, steps, self.usage()),
                Wire::Ollama => ollama::whole(&self.asked.model, steps, self.usage()),
            };
        }
        let error = steps.iter().find_map(|step| {
            if let Step::ErrorInStream(error) = step {
                Some(error)
            } else {
                None
            }
        });
        let message: String = steps
            .iter()
            .filter_map(|step| {
                if let Step::Text(text) = step {
                    Some(text.as_str())
                } else {
                    None
                }
            })
            .collect();
        let message = if message.is_empty() {
            "refused by the script"
        } else {
            &message
        };
        refusal(self.asked.wire, self.turn.status, message, error)
    }

    /// The steps that wait or break off; others do nothing here.
    async fn act(&mut self, step: &Step) -> Result<(), End> {
        match step {
            Step::Delay(wait) => {
                self.at += std::time::Duration::from_millis(*wait);
                self.wait(sleep_until(self.at)).await
            }
            Step::WaitFor(gate) => {
                self.shared.waits(self.number, Some(gate));
                self.wait(self.shared.gate(gate)).await?;
                self.shared.waits(self.number, None);
                self.at = Instant::now();
                Ok(())
            }
            Step::Stall => self.wait(std::future::pending()).await,
            Step::Drop => Err(End::Dropped(Side::Script)),
            Step::Unframed(bytes) => {
                (self.head_sent, self.is_broken) = (true, true);
                Ok(self.connection.send(bytes).await?)
            }
            _ => Ok(()),
        }
    }

    /// Waits, unless the client leaves.
    async fn wait(&mut self, what: impl Future<Output = ()>) -> Result<(), End> {
        tokio::select! {
            () = self.connection.left() => Err(End::Dropped(Side::Client)),
            () = what => Ok(()),
        }
    }

    async fn head(&mut self) -> Result<(), End> {
        if !self.head_sent {
            self.head_sent = true;
            self.connection.send(&self.head_bytes()).await?;
        }
        Ok(())
    }

    fn head_bytes(&self) -> Vec<u8> {
        let id = format!("req_{}", self.number);
        let kind = match self.asked.wire {
            Wire::OpenAi | Wire::Anthropic => "text/event-stream; charset=utf-8",
            Wire::Gemini => "text/event-stream",
            Wire::Ollama => "application/x-ndjson",
        };
        let usual = [
            ("content-type", kind),
            ("cache-control", "no-cache"),
            ("transfer-encoding", "chunked"),
            ("x-request-id", &id),
        ];
        head(self.turn.status, &self.turn.headers, &usual)
    }

    /// Sends a piece of the body, in one write with the head if that is still to come.
    async fn body(&mut self, bytes: &[u8]) -> Result<(), End> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut out = if self.head_sent {
            Vec::new()
        } else {
            self.head_bytes()
        };
        self.head_sent = true;
        out.extend(chunk(bytes));
        self.connection.send(&out).await?;
        self.shared.sent(self.number, bytes.len());
        Ok(())
    }

    /// What the script says, else a count: of the words of the prompt, and of the pieces of the answer.
    fn usage(&self) -> Usage {
        let steps = &self.turn.steps;
        let scripted = steps.iter().find_map(|step| {
            if let Step::Usage(usage) = step {
                Some(*usage)
            } else {
                None
            }
        });
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let thoughts = steps
            .iter()
            .filter(|step| matches!(step, Step::Reasoning(_)))
            .count();
        let said = steps
            .iter()
            .filter(|step| matches!(step, Step::Text(_) | Step::ToolArguments { .. }))
            .count();
        scripted.unwrap_or_else(|| Usage {
            input: count({
                let messages = self.asked.messages().iter();
                let words = messages.map(|one| one.to_string().split_whitespace().count());
                words.sum()
            }),
            output: count(said + thoughts),
            cached: 0,
            reasoning: count(thoughts),
        })
    }
}

/// The body of a refusal as a wire has it.
pub(super) fn refusal(wire: Wire, status: u16, message: &str, error: Option<&Value>) -> Value {
    match wire {
        Wire::OpenAi => openai::refusal(status, message, error),
        Wire::Anthropic => anthropic::refusal(status, message, error),
        Wire::Gemini => gemini::refusal(status, message, error),
        Wire::Ollama => ollama::refusal(message, error),
    }
}

/// The arguments of a tool call, for wires that send them whole: those that its later pieces make, once no more come. `said` is what
/// was said of each call so far.
pub(super) fn whole_call<'a>(
    said: &mut Vec<(u32, String, String, String)>,
    step: &'a Step,
    later: &'a [Step],
) -> Option<(String, String, Value)> {
    let index = match step {
        Step::ToolCall { index, id, name } => {
            said.push((*index, id.clone(), name.clone(), String::new()));
            index
        }
        Step::ToolArguments { index, text } => {
            let (.., arguments) = said.iter_mut().find(|(call, ..)| call == index)?;
            *arguments += text;
            index
        }
        _ => return None,
    };
    let goes_on = later
        .iter()
        .any(|step| matches!(step, Step::ToolArguments { index: call, .. } if call == index));
    if goes_on {
        return None;
    }
    let at = said.iter().position(|(call, ..)| call == index)?;
    let (_, id, name, arguments) = said.remove(at);
    let arguments = match serde_json::from_str(&arguments) {
        Ok(value) => value,
        Err(_) if arguments.is_empty() => Value::Object(serde_json::Map::new()),
        // no JSON, as no such server would send it
        Err(_) => Value::String(arguments),
    };
    Some((id, name, arguments))
}
