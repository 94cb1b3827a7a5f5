//! What is done to something valid: to bytes, to JSON, to documents.

use serde_json::{Map, Value, json};

use super::chance::Chance;

/// Numbers that programs count wrong with.
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "1",
    "255",
    "65536",
    "2147483648",
    "4294967296",
    "9223372036854775808",
    "18446744073709551616",
    "1e999",
    "-0",
    "0x10",
    "99999999999999999999999999",
];

/// Text that programs read wrong.
const TEXTS: &[&str] = &[
    "",
    "\0",
    "\u{feff}",
    "\u{202e}",
    "ÿ",
    "𝕎🧵",
    "\r\n\r\n",
    "../../etc/passwd",
    "%00",
    "%s%n",
    "'\"\\`",
    "sha256:",
    "\u{2028}",
];

/// Bytes with something done to them, once or a few times.
pub fn bytes(chance: &mut Chance, whole: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=chance.below(3) {
        let at = chance.below(whole.len() + 1);
        let end = (at + 1 + chance.below(12)).min(whole.len());
        match chance.below(9) {
            0 => {
                if let Some(byte) = whole.get_mut(at) {
                    *byte ^= 1 << chance.below(8);
                }
            }
            1 => {
                if let Some(byte) = whole.get_mut(at) {
                    *byte = chance.byte();
                }
            }
            2 => whole.insert(at, *chance.of_these(b"\0\r\n \t:;,{}[]()\"\\\x7f\xff")),
            3 => {
                whole.drain(at..end.max(at));
            }
            4 => {
                let part = whole[at..end.max(at)].to_vec();
                let most = if chance.once_in(8) { 4_000 } else { 4 };
                let often = 1 + chance.below(most);
                whole.splice(at..at, part.repeat(often));
            }
            5 => whole.truncate(at),
            6 => {
                let from = chance.below(other.len() + 1);
                let to = (from + chance.below(40)).min(other.len());
                whole.splice(at..at, other[from..to].iter().copied());
            }
            7 => number(chance, whole),
            _ => {
                let text = chance.of_these(TEXTS).as_bytes();
                whole.splice(at..at, text.iter().copied());
            }
        }
    }
}

/// Puts another number in the place of one.
fn number(chance: &mut Chance, whole: &mut Vec<u8>) {
    let starts: Vec<usize> = (0..whole.len())
        .filter(|&at| whole[at].is_ascii_digit() && (at == 0 || !whole[at - 1].is_ascii_digit()))
        .collect();
    if starts.is_empty() {
        return;
    }
    let start = *chance.of_these(&starts);
    let digits = whole[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let new = chance.of_these(NUMBERS).bytes();
    whole.splice(start..start + digits, new);
}

/// JSON of which one value is another, gone, or doubled.
pub fn json(chance: &mut Chance, value: &mut Value) {
    match value {
        Value::Object(fields) if !fields.is_empty() && !chance.once_in(6) => {
            let keys: Vec<String> = fields.keys().cloned().collect();
            let key = chance.of_these(&keys).clone();
            match chance.below(8) {
                0 => {
                    fields.remove(&key);
                }
                1 => {
                    let inner = fields.remove(&key).unwrap_or_default();
                    fields.insert((*chance.of_these(TEXTS)).to_owned(), inner);
                }
                2 => {
                    fields.insert((*chance.of_these(TEXTS)).to_owned(), anything(chance));
                }
                _ => json(chance, fields.entry(key).or_insert(Value::Null)),
            }
        }
        Value::Array(elements) if !elements.is_empty() && !chance.once_in(4) => {
            let at = chance.below(elements.len());
            json(chance, &mut elements[at]);
        }
        Value::String(text) if chance.once_in(2) => {
            let mut inner = text.clone().into_bytes();
            bytes(chance, &mut inner, b"{ __typename }");
            *text = String::from_utf8_lossy(&inner).into_owned();
        }
        _ => *value = anything(chance),
    }
}

fn anything(chance: &mut Chance) -> Value {
    match chance.below(9) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(
            chance
                .of_these(&[0_i64, -1, 1, i64::MAX, i64::MIN, 1 << 31, 1 << 53])
                .to_owned()
        ),
        3 => json!(*chance.of_these(&[0.5, 1e308, -1e-300, 9_007_199_254_740_993.0])),
        4 => json!(chance.of_these(TEXTS)),
        5 => json!("x".repeat(chance.below(20_000))),
        6 => json!([]),
        7 => {
            let mut deep = json!(1);
            for _ in 0..chance.below(300) {
                deep = if chance.once_in(2) {
                    json!([deep])
                } else {
                    Value::Object(Map::from_iter([("a".to_owned(), deep)]))
                };
            }
            deep
        }
        _ => json!({"input": {"id": "x"}, "a": [null, {"b": {}}]}),
    }
}

/// A document of which words are gone, doubled, others or elsewhere.
pub fn document(chance: &mut Chance, text: &str, other: &str) -> String {
    let mut words = words(text);
    let others = self::words(other);
    for _ in 0..=chance.below(4) {
        if words.is_empty() || others.is_empty() {
            break;
        }
        let at = chance.below(words.len());
        let end = (at + 1 + chance.below(8)).min(words.len());
        match chance.below(9) {
            0 => {
                words.remove(at);
            }
            1 => words.insert(at, chance.of_these(&others).clone()),
            2 => words[at] = chance.of_these(&others).clone(),
            3 => {
                let to = chance.below(words.len());
                words.swap(at, to);
            }
            4 => {
                let part = words[at..end].to_vec();
                let most = if chance.once_in(6) { 600 } else { 3 };
                let often = 1 + chance.below(most);
                let again = std::iter::repeat_n(part, often).flatten();
                words.splice(at..at, again);
            }
            5 => {
                let from = chance.below(others.len());
                let to = (from + chance.below(20)).min(others.len());
                words.splice(at..at, others[from..to].iter().cloned());
            }
            6 => {
                let odd = [
                    "@skip(if: true)",
                    "@include(if: $nope)",
                    "...F",
                    "... on Node",
                    "__typename",
                    "__schema { types { name } }",
                    "$x",
                    "\"\"\"",
                    "\"\\u{110000}\"",
                    "fragment F on Query { ...F }",
                    "subscription",
                    "query A",
                    "@@",
                    "#",
                    "{",
                    "(",
                    "[",
                ];
                words.insert(at, (*chance.of_these(&odd)).to_owned());
            }
            7 => words[at] = (*chance.of_these(NUMBERS)).to_owned(),
            _ => {
                let depth = chance.below(120);
                words.insert(at, "{ a ".repeat(depth) + &"}".repeat(depth));
            }
        }
    }
    words.join(" ")
}

/// The words of a document: names, numbers, text and marks.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for letter in text.chars() {
        if letter.is_alphanumeric() || matches!(letter, '_' | '$' | '@') {
            word.push(letter);
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if !letter.is_whitespace() {
            words.push(letter.to_string());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}
