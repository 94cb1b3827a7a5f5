//! Answers as JSON text (RFC 8259), straight from values or from text that objects were already written to.

use upstream_async_graphql::{Response, Value};

use crate::finish::refused;

/// A response as the body of `application/graphql-response+json`. Errors stand first, where nobody overlooks them. `data` is left
/// out if the request was [`refused`] before it was executed, as section 7.1 of the specification asks.
pub fn to_json(response: &Response) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + size(&response.data));
    out.push(b'{');
    if !response.errors.is_empty() {
        next(&mut out, "errors");
        serde_json::to_writer(&mut out, &response.errors)
            .expect("errors are maps with keys of text");
    }
    if !refused(response) {
        next(&mut out, "data");
        write(&mut out, &response.data);
    }
    if !response.extensions.is_empty() {
        next(&mut out, "extensions");
        serde_json::to_writer(&mut out, &response.extensions)
            .expect("extensions are maps with keys of text");
    }
    out.push(b'}');
    out
}

fn next(out: &mut Vec<u8>, key: &str) {
    if out.len() > 1 {
        out.push(b',');
    }
    string(out, key);
    out.push(b':');
}

/// Text in an answer back into a tree, for tests and logs. Text that can't be read (nested deeper than 128) stays.
pub fn tree(value: Value) -> Value {
    match value {
        Value::Binary(text) => serde_json::from_slice(&text).unwrap_or(Value::Binary(text)),
        Value::List(list) => Value::List(list.into_iter().map(tree).collect()),
        Value::Object(object) => Value::Object(
            object
                .into_iter()
                .map(|(key, value)| (key, tree(value)))
                .collect(),
        ),
        other => other,
    }
}

/// About how many bytes `write` adds.
pub(crate) fn size(value: &Value) -> usize {
    match value {
        Value::Binary(text) => text.len(),
        Value::String(text) => text.len() + 8,
        Value::List(list) => list.iter().map(|value| size(value) + 1).sum::<usize>() + 2,
        Value::Object(object) => {
            object
                .iter()
                .map(|(key, value)| key.len() + 4 + size(value))
                .sum::<usize>()
                + 2
        }
        _ => 16,
    }
}

pub(crate) fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Boolean(true) => out.extend_from_slice(b"true"),
        Value::Boolean(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => match number.as_i64() {
            Some(number) => integer(out, number),
            None => out.extend_from_slice(number.to_string().as_bytes()),
        },
        Value::String(text) => string(out, text),
        Value::Enum(name) => string(out, name),
        Value::Binary(text) => out.extend_from_slice(text),
        Value::List(list) => sequence(out, list, write),
        Value::Object(object) => {
            out.push(b'{');
            for (i, (key, value)) in object.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                string(out, key);
                out.push(b':');
                write(out, value);
            }
            out.push(b'}');
        }
    }
}

pub(crate) fn sequence<T>(out: &mut Vec<u8>, values: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(out, value);
    }
    out.push(b']');
}

pub(crate) fn integer(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const QUOTES: u64 = ONES * b'"' as u64;
const BACKSLASHES: u64 = ONES * b'\\' as u64;
const SPACES: u64 = ONES * b' ' as u64;
const HIGH_BITS: u64 = ONES << 7;

/// Whether any of eight bytes equals a quote or a backslash or lies below a space. May say yes too often, never no.
fn needs_a_look(word: u64) -> bool {
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH_BITS;
    let has_control = word.wrapping_sub(SPACES) & !word & HIGH_BITS;
    has_zero(word ^ QUOTES) | has_zero(word ^ BACKSLASHES) | has_control != 0
}

pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut written = 0;
    let mut at = 0;
    while at < bytes.len() {
        if let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk)
            && !needs_a_look(u64::from_ne_bytes(*word))
        {
            at += 8;
            continue;
        }
        let end = (at + 8).min(bytes.len());
        while at < end {
            let byte = bytes[at];
            if byte < b' ' || byte == b'"' || byte == b'\\' {
                out.extend_from_slice(&bytes[written..at]);
                written = at + 1;
                escape(out, byte);
            }
            at += 1;
        }
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        b'\x08' => out.extend_from_slice(b"\\b"),
        b'\x0c' => out.extend_from_slice(b"\\f"),
        _ => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_wherever_they_need_it() {
        let special = [
            "\"", "\\", "\n", "\r", "\t", "\u{8}", "\u{c}", "\0", "\u{1}", "\u{1f}", "\u{7f}", "ü",
            "翻", "🦀", " ", "!", "[", "]",
        ];
        for special in special {
            for before in 0..17 {
                for after in 0..17 {
                    let text = format!("{}{special}{}", "a".repeat(before), "z".repeat(after));
                    let mut out = Vec::new();
                    string(&mut out, &text);
                    assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
                }
            }
        }
    }

    #[test]
    fn values_are_written_as_serde_would() {
        let value = serde_json::json!({
            "none": null, "yes": true, "no": false, "n": -7, "big": u64::MAX, "f": 0.1, "e": 1e300,
            "list": [1, [], {}, "x\"y"], "o": {"a\n": {"b": [null]}}, "": "",
        });
        let mut out = Vec::new();
        write(&mut out, &Value::from_json(value.clone()).unwrap());
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&out).unwrap(),
            value
        );
    }

    #[test]
    fn text_becomes_a_tree_again_or_stays() {
        let text = Value::Binary(br#"{"a":[1]}"#.to_vec().into());
        assert_eq!(tree(Value::List(vec![text])).to_string(), "[{a: [1]}]");
        let deep = Value::Binary([b"[".repeat(1000), b"]".repeat(1000)].concat().into());
        assert_eq!(tree(deep.clone()), deep);
    }
}
