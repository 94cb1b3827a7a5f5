//! Values as messages show them.

use std::fmt::{self, Display, Write as _};

use async_graphql_value::Value as Written;
use upstream_async_graphql::Value;

/// Characters of a value that a message shows at most.
const LONGEST: usize = 100;

/// Takes so many characters, and then no more: a value may be as large as a request.
struct Short {
    text: String,
    left: usize,
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            match char {
                // the others are escaped where strings are quoted
                '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                    write!(self.text, "\\u{:04x}", u32::from(char))?;
                }
                char => self.text.push(char),
            }
        }
        Ok(())
    }
}

fn short(write: impl FnOnce(&mut Short) -> fmt::Result) -> String {
    let mut short = Short {
        text: String::new(),
        left: LONGEST,
    };
    if write(&mut short).is_err() {
        short.text.push('…');
    }
    short.text
}

/// A value of a variable, as graphql-js shows it.
pub(super) fn given(value: &Value) -> String {
    short(|out| given_to(value, DEEPEST, out))
}

/// What stands deeper in each other is only named.
const DEEPEST: usize = 2;

/// So many items of a list are shown.
const ITEMS: usize = 10;

fn given_to(value: &Value, deeper: usize, out: &mut Short) -> fmt::Result {
    match value {
        Value::List(items) if items.is_empty() => out.write_str("[]"),
        Value::Object(fields) if fields.is_empty() => out.write_str("{}"),
        Value::List(_) if deeper == 0 => out.write_str("[Array]"),
        Value::Object(_) if deeper == 0 => out.write_str("[Object]"),
        Value::List(items) => {
            out.write_char('[')?;
            for (at, item) in items.iter().take(ITEMS).enumerate() {
                if at > 0 {
                    out.write_str(", ")?;
                }
                given_to(item, deeper - 1, out)?;
            }
            match items.len().saturating_sub(ITEMS) {
                0 => {}
                1 => out.write_str(", ... 1 more item")?,
                more => write!(out, ", ... {more} more items")?,
            }
            out.write_char(']')
        }
        Value::Object(fields) => {
            out.write_str("{ ")?;
            for (at, (name, value)) in fields.iter().enumerate() {
                if at > 0 {
                    out.write_str(", ")?;
                }
                name_to(name, out)?;
                out.write_str(": ")?;
                given_to(value, deeper - 1, out)?;
            }
            out.write_str(" }")
        }
        Value::String(text) => quoted(text, out),
        Value::Number(number) if number.is_f64() => {
            write!(out, "{}", number.as_f64().unwrap_or_default())
        }
        Value::Binary(_) => out.write_str("…"),
        other => write!(out, "{other}"),
    }
}

/// A name that a request made up, which need not be one.
fn name_to(name: &str, out: &mut Short) -> fmt::Result {
    name.chars().try_for_each(|char| escaped(char, out))
}

fn quoted(text: &str, out: &mut Short) -> fmt::Result {
    out.write_char('"')?;
    for char in text.chars() {
        match char {
            '"' | '\\' => {
                out.write_char('\\')?;
                out.write_char(char)?;
            }
            char => escaped(char, out)?,
        }
    }
    out.write_char('"')
}

fn escaped(char: char, out: &mut Short) -> fmt::Result {
    match char {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        '\u{8}' => out.write_str("\\b"),
        '\u{c}' => out.write_str("\\f"),
        '\0'..='\u{1f}' => write!(out, "\\u{:04x}", u32::from(char)),
        char => out.write_char(char),
    }
}

/// A literal, as it stands in a document.
pub(super) fn literal(value: &Written) -> String {
    short(|out| literal_to(value, out))
}

fn literal_to(value: &Written, out: &mut Short) -> fmt::Result {
    match value {
        Written::List(items) => {
            out.write_char('[')?;
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.write_str(", ")?;
                }
                literal_to(item, out)?;
            }
            out.write_char(']')
        }
        Written::Object(fields) => {
            out.write_char('{')?;
            for (at, (name, value)) in fields.iter().enumerate() {
                if at > 0 {
                    out.write_str(", ")?;
                }
                write!(out, "{name}: ")?;
                literal_to(value, out)?;
            }
            out.write_char('}')
        }
        Written::String(text) => quoted(text, out),
        other => write!(out, "{other}"),
    }
}

/// A name that a request made up: of a field of an input object, or of a value of an enum.
pub(super) fn name(name: &str) -> impl Display + use<> {
    short(|out| name_to(name, out))
}
