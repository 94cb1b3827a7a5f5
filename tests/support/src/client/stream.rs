//! Subscriptions over HTTP: server-sent events, and the parts of a body.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Answer, Client};
use crate::wait::within;

/// How long a stream may last in all.
const LASTS: Duration = Duration::from_secs(300);

/// In which form a stream is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Server-sent events.
    Events,
    /// Parts, as Apollo's clients ask for them.
    Parts,
}

/// What comes next of a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// An answer, with the cursor that stood beside it.
    Answer(Option<String>, Value),
    /// There are no more.
    Complete,
    /// It broke off.
    Broken,
}

/// A stream that is read.
#[derive(Debug)]
pub struct Stream {
    answer: reqwest::Response,
    form: Form,
    unread: Vec<u8>,
    is_over: bool,
}

impl Client {
    /// Asks for a stream, after the event of this id where one is given.
    ///
    /// # Errors
    ///
    /// The answer that came in place of a stream.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub async fn stream(
        &self,
        form: Form,
        document: &str,
        variables: Value,
        last_event: Option<&str>,
    ) -> Result<Stream, Answer> {
        let accept = match form {
            Form::Events => "text/event-stream",
            Form::Parts => "multipart/mixed;boundary=graphql;subscriptionSpec=1.0,application/json",
        };
        let mut request = self
            .request(reqwest::Method::POST, "/graphql")
            .header("accept", accept)
            .timeout(LASTS)
            .json(&json!({"query": document, "variables": variables}));
        if let Some(id) = last_event {
            request = request.header("last-event-id", id);
        }
        let answer = request.send().await;
        let answer = answer.unwrap_or_else(|error| panic!("no answer: {error:?}"));
        let media = answer.headers().get("content-type");
        let media = media.and_then(|media| media.to_str().ok());
        let is_stream = media.is_some_and(|media| !media.contains("json"));
        if !is_stream {
            return Err(Answer {
                status: answer.status().as_u16(),
                headers: answer.headers().clone(),
                body: answer.bytes().await.unwrap_or_default().to_vec(),
            });
        }
        Ok(Stream {
            answer,
            form,
            unread: Vec::new(),
            is_over: false,
        })
    }
}

impl Stream {
    /// What comes next; signs of life are passed over.
    ///
    /// # Panics
    ///
    /// When nothing comes within the deadline, or something that is of no such stream.
    pub async fn next(&mut self, deadline: Duration) -> Next {
        within(deadline, "something of a stream", self.read()).await
    }

    async fn read(&mut self) -> Next {
        let end = match self.form {
            Form::Events => "\n\n",
            Form::Parts => "\r\n--graphql",
        };
        while !self.is_over {
            // two more letters tell the last delimiter from the others
            if self.form == Form::Parts {
                while self.unread.len() < 2 && self.more().await {}
                if self.unread.starts_with(b"--") {
                    self.is_over = true;
                    return Next::Complete;
                }
            }
            let Some(text) = self.until(end).await else {
                break;
            };
            let next = match self.form {
                Form::Events => event(&text),
                Form::Parts => part(&text),
            };
            if let Some(next) = next {
                self.is_over = next == Next::Complete;
                return next;
            }
        }
        self.is_over = true;
        Next::Broken
    }

    async fn more(&mut self) -> bool {
        match self.answer.chunk().await {
            Ok(Some(bytes)) => {
                self.unread.extend_from_slice(&bytes);
                true
            }
            Ok(None) | Err(_) => false,
        }
    }

    async fn until(&mut self, end: &str) -> Option<String> {
        loop {
            let found = self
                .unread
                .windows(end.len())
                .position(|window| window == end.as_bytes());
            if let Some(at) = found {
                let text = self.unread[..at].to_vec();
                self.unread.drain(..at + end.len());
                return Some(String::from_utf8(text).expect("UTF-8"));
            }
            if !self.more().await {
                return None;
            }
        }
    }
}

/// An event by its lines; none for a comment.
fn event(text: &str) -> Option<Next> {
    let (mut kind, mut id, mut data) = ("", None, "");
    for line in text.lines().filter(|line| !line.starts_with(':')) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => kind = value,
            "id" => id = Some(value.to_owned()),
            "data" => data = value,
            _ => panic!("a line of no event: {line:?}"),
        }
    }
    match kind {
        "" => None,
        "next" => Some(Next::Answer(
            id,
            serde_json::from_str(data).expect("an answer"),
        )),
        "complete" => Some(Next::Complete),
        _ => panic!("an event of no such protocol: {text:?}"),
    }
}

/// A part; none for a sign of life and for what stands before the first delimiter.
fn part(text: &str) -> Option<Next> {
    let (_, json) = text.split_once("\r\n\r\n")?;
    if json.is_empty() {
        return None;
    }
    let mut json: Value = serde_json::from_str(json).expect("a part's JSON");
    if json.as_object().is_some_and(serde_json::Map::is_empty) {
        return None;
    }
    let payload = json["payload"].take();
    Some(Next::Answer(
        None,
        match payload {
            Value::Null => json,
            payload => payload,
        },
    ))
}
