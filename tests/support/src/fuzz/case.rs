//! A case: what is written on one connection. Each begins with something valid.

use serde_json::{Value, json};

use super::{chance::Chance, change};

/// What the valid beginnings need to know of the server.
#[derive(Clone, Debug)]
pub struct Known {
    /// `127.0.0.1:PORT`.
    pub host: String,
    /// An access token.
    pub token: String,
    /// A conversation, to be followed.
    pub conversation: String,
    /// Documents, each with variables that it may have.
    pub documents: Vec<(String, Value)>,
}

/// What is written on one connection, piece by piece.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it began as.
    pub kind: &'static str,
    /// Written one after the other, each flushed.
    pub pieces: Vec<Vec<u8>>,
}

/// What makes the pieces of a kind of case.
type Make = fn(&Known, &mut Chance) -> Vec<Vec<u8>>;

/// The case of this chance.
pub fn make(known: &Known, chance: &mut Chance) -> Case {
    let kinds: [(&'static str, Make); 9] = [
        ("head", head),
        ("body of JSON", body),
        ("document", document),
        ("document", document),
        ("chunks", chunks),
        ("handshake", handshake),
        ("messages", messages),
        ("frames", frames),
        ("frames as bytes", frame_bytes),
    ];
    let (kind, make) = *chance.of_these(&kinds);
    let mut pieces = make(known, chance);
    if chance.once_in(5) {
        // somewhere torn apart
        let whole = pieces.concat();
        let at = chance.below(whole.len() + 1);
        let (one, other) = whole.split_at(at);
        pieces = vec![one.to_vec(), other.to_vec()];
    }
    Case { kind, pieces }
}

fn asked(known: &Known, chance: &mut Chance) -> Value {
    let (query, variables) = chance.of_these(&known.documents);
    json!({"query": query, "variables": variables})
}

fn post(known: &Known, chance: &mut Chance, body: &[u8]) -> Vec<u8> {
    let accept = chance.of_these(&[
        "application/graphql-response+json",
        "application/json",
        "text/event-stream",
        "multipart/mixed;subscriptionSpec=1.0, application/json",
        "*/*",
    ]);
    let credential = if chance.once_in(4) {
        String::new()
    } else {
        format!("authorization: Bearer {}\r\n", known.token)
    };
    let more = chance.of_these(&[
        "",
        "accept-encoding: gzip, br\r\n",
        "x-request-id: a-1\r\n",
        "last-event-id: wc_1\r\n",
        "expect: 100-continue\r\n",
        "connection: close\r\n",
    ]);
    let mut whole = format!(
        "POST /graphql HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\naccept: {accept}\r\n{credential}{more}content-length: {}\r\n\r\n",
        known.host,
        body.len()
    )
    .into_bytes();
    whole.extend_from_slice(body);
    whole
}

fn get(known: &Known, chance: &mut Chance) -> Vec<u8> {
    let path = chance.of_these(&[
        "/graphql?query=%7B__typename%7D",
        "/graphql?query=query(%24a:Int)%7B__typename%7D&variables=%7B%22a%22:1%7D&extensions=%7B%7D",
        "/graphql?documentId=sha256:00",
        "/health",
        "/ready",
        "/schema.graphql",
        "/metrics",
        "/",
        "/favicon.ico",
    ]);
    let method = chance.of_these(&["GET", "GET", "HEAD", "OPTIONS", "DELETE", "PUT"]);
    format!("{method} {path} HTTP/1.1\r\nhost: {}\r\norigin: http://{}\r\naccess-control-request-method: POST\r\naccept: */*\r\n\r\n", known.host, known.host).into_bytes()
}

fn head(known: &Known, chance: &mut Chance) -> Vec<Vec<u8>> {
    let mut whole = if chance.once_in(2) {
        let body = asked(known, chance).to_string();
        post(known, chance, body.as_bytes())
    } else {
        get(known, chance)
    };
    let other = get(known, chance);
    if chance.once_in(4) {
        whole.extend_from_slice(&other);
    }
    if chance.once_in(6) {
        let end = whole
            .windows(2)
            .position(|two| two == b"\r\n")
            .map_or(0, |at| at + 2);
        let headers = format!(
            "{}: {}\r\n",
            "x".repeat(1 + chance.below(300)),
            "y".repeat(chance.below(3_000))
        );
        let often = chance.below(120);
        whole.splice(end..end, headers.repeat(often).into_bytes());
    } else {
        change::bytes(chance, &mut whole, &other);
    }
    vec![whole]
}

fn body(known: &Known, chance: &mut Chance) -> Vec<Vec<u8>> {
    let mut value = asked(known, chance);
    if chance.once_in(4) {
        value["extensions"] = json!({"persistedQuery": {"version": 1, "sha256Hash": "00"}});
    }
    if chance.once_in(4) {
        value["operationName"] = json!("A");
    }
    for _ in 0..=chance.below(3) {
        change::json(chance, &mut value);
    }
    let mut text = value.to_string().into_bytes();
    if chance.once_in(3) {
        change::bytes(chance, &mut text, b"[{\"query\":\"{a}\"}]");
    }
    vec![post(known, chance, &text)]
}

fn document(known: &Known, chance: &mut Chance) -> Vec<Vec<u8>> {
    let (query, variables) = chance.of_these(&known.documents).clone();
    let (other, _) = chance.of_these(&known.documents);
    let query = change::document(chance, &query, other);
    let body = json!({"query": query, "variables": variables}).to_string();
    vec![post(known, chance, body.as_bytes())]
}

fn chunks(known: &Known, chance: &mut Chance) -> Vec<Vec<u8>> {
    let body = asked(known, chance).to_string();
    let mut pieces = vec![
        format!(
            "POST /graphql HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
            known.host
        )
        .into_bytes(),
    ];
    let mut left = body.as_bytes();
    while !left.is_empty() {
        let (chunk, rest) = left.split_at((1 + chance.below(200)).min(left.len()));
        let mut piece = format!("{:x}\r\n", chunk.len()).into_bytes();
        piece.extend_from_slice(chunk);
        piece.extend_from_slice(b"\r\n");
        pieces.push(piece);
        left = rest;
    }
    pieces.push(b"0\r\n\r\n".to_vec());
    if !chance.once_in(5) {
        let at = chance.below(pieces.len());
        let odd: &[&[u8]] = &[
            b"ffffffffffffffff\r\n",
            b"-1\r\n",
            b"5;a=b;c\r\nhello\r\n",
            b"0\r\ntrailer: x\r\n\r\n",
            b"\r\n",
            b"1\r\nab\r\n",
            b"zz\r\n",
        ];
        if chance.once_in(2) {
            pieces.insert(at, chance.of_these(odd).to_vec());
        } else {
            change::bytes(chance, &mut pieces[at], b"0\r\n\r\nffff\r\n");
        }
    }
    pieces
}

fn upgrade(known: &Known) -> Vec<u8> {
    format!(
        "GET /graphql HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: d2VmdHdlZnR3ZWZ0d2VmdA==\r\nsec-websocket-protocol: graphql-transport-ws\r\n\r\n",
        known.host
    )
    .into_bytes()
}

fn handshake(known: &Known, chance: &mut Chance) -> Vec<Vec<u8>> {
    let mut whole = upgrade(known);
    let other = get(known, chance);
    change::bytes(chance, &mut whole, &other);
    let init = frame(chance, 1, br#"{"type":"connection_init"}"#);
    vec![whole, init]
}

/// What a client says in order.
fn talk(known: &Known, chance: &mut Chance) -> Vec<Value> {
    let credential = json!({"Authorization": format!("Bearer {}", known.token)});
    let mut talk = vec![json!({"type": "connection_init", "payload": credential})];
    let follow = json!({
        "query": "subscription($id: ID!) { conversationEvents(conversationId: $id) { __typename cursor } }",
        "variables": {"id": known.conversation},
    });
    for id in 0..=chance.below(4) {
        let payload = if chance.once_in(2) {
            follow.clone()
        } else {
            asked(known, chance)
        };
        talk.push(json!({"id": id.to_string(), "type": "subscribe", "payload": payload}));
        match chance.below(4) {
            0 => talk.push(json!({"type": "ping", "payload": credential})),
            1 => talk.push(json!({"type": "pong"})),
            2 => talk.push(json!({"id": id.to_string(), "type": "complete"})),
            _ => {}
        }
    }
    talk
}

fn messages(known: &Known, chance: &mut Chance) -> Vec<Vec<u8>> {
    let mut talk = talk(known, chance);
    for _ in 0..=chance.below(3) {
        let at = chance.below(talk.len());
        match chance.below(5) {
            0 => {
                talk.remove(at);
            }
            1 => talk.push(talk[at].clone()),
            2 => {
                let to = chance.below(talk.len());
                talk.swap(at, to);
            }
            _ => change::json(chance, &mut talk[at]),
        }
        if talk.is_empty() {
            break;
        }
    }
    let mut pieces = vec![upgrade(known)];
    for message in talk {
        let mut text = message.to_string().into_bytes();
        if chance.once_in(6) {
            change::bytes(chance, &mut text, b"{\"type\":\"subscribe\"}");
        }
        pieces.push(frame(chance, 1, &text));
    }
    pieces
}

/// A whole frame as a client writes it.
fn frame(chance: &mut Chance, opcode: u8, payload: &[u8]) -> Vec<u8> {
    written(chance, 0x80 | opcode, payload, payload.len() as u64, true)
}

/// A frame whose first byte, length and mask are what the caller says.
fn written(
    chance: &mut Chance,
    first: u8,
    payload: &[u8],
    length: u64,
    is_masked: bool,
) -> Vec<u8> {
    let mask = if is_masked { 0x80 } else { 0 };
    let mut out = vec![first];
    let wide = chance.once_in(20);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) if !wide => out.push(mask | short),
        (_, Ok(middle)) if !wide => {
            out.push(mask | 126);
            out.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            out.push(mask | 127);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    if is_masked {
        let key = [chance.byte(), chance.byte(), chance.byte(), chance.byte()];
        out.extend_from_slice(&key);
        out.extend(
            payload
                .iter()
                .zip(key.iter().cycle())
                .map(|(byte, key)| byte ^ key),
        );
    } else {
        out.extend_from_slice(payload);
    }
    out
}

fn frames(known: &Known, chance: &mut Chance) -> Vec<Vec<u8>> {
    let mut pieces = vec![upgrade(known)];
    for message in talk(known, chance) {
        let text = message.to_string().into_bytes();
        match chance.below(7) {
            // in parts, with a control frame between
            0 => {
                let parts: Vec<&[u8]> = text.chunks(1 + chance.below(text.len())).collect();
                for (at, part) in parts.iter().enumerate() {
                    let last = if at + 1 == parts.len() && !chance.once_in(5) {
                        0x80
                    } else {
                        0
                    };
                    let opcode = u8::from(at == 0 || chance.once_in(8));
                    pieces.push(written(
                        chance,
                        last | opcode,
                        part,
                        part.len() as u64,
                        true,
                    ));
                    if chance.once_in(3) {
                        pieces.push(frame(chance, 9, b"between"));
                    }
                }
            }
            1 => {
                let first = chance.byte();
                pieces.push(written(chance, first, &text, text.len() as u64, true));
            }
            2 => {
                let length =
                    *chance.of_these(&[0, 1, 125, 126, 65_535, 1 << 20, 1 << 40, u64::MAX]);
                pieces.push(written(chance, 0x81, &text, length, true));
            }
            3 => pieces.push(written(chance, 0x81, &text, text.len() as u64, false)),
            // control frames: too long, in parts, closes of all kinds
            4 => {
                let opcode = *chance.of_these(&[8, 9, 10]);
                let payload = match chance.below(4) {
                    0 => vec![b'x'; chance.below(200)],
                    1 => vec![chance.byte()],
                    2 => {
                        let mut payload = chance
                            .of_these(&[
                                0_u16, 999, 1000, 1005, 1006, 1015, 3000, 4400, 4999, 65_535,
                            ])
                            .to_be_bytes()
                            .to_vec();
                        let reason: &[u8] = if chance.once_in(2) {
                            b"bye"
                        } else {
                            b"\xff\xfe"
                        };
                        payload.extend_from_slice(reason);
                        payload
                    }
                    _ => Vec::new(),
                };
                let last = if chance.once_in(4) { 0 } else { 0x80 };
                pieces.push(written(
                    chance,
                    last | opcode,
                    &payload,
                    payload.len() as u64,
                    true,
                ));
            }
            5 => {
                let mut text = text;
                let at = chance.below(text.len());
                text[at] = *chance.of_these(b"\xff\xc0\x80\0");
                let opcode = *chance.of_these(&[1, 2]);
                pieces.push(frame(chance, opcode, &text));
            }
            _ => pieces.push(frame(chance, 1, &text)),
        }
    }
    pieces
}

fn frame_bytes(known: &Known, chance: &mut Chance) -> Vec<Vec<u8>> {
    let mut stream = Vec::new();
    for message in talk(known, chance) {
        stream.extend(frame(chance, 1, message.to_string().as_bytes()));
    }
    let other = stream.clone();
    change::bytes(chance, &mut stream, &other);
    vec![upgrade(known), stream]
}
