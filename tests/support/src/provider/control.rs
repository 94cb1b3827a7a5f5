//! Control over HTTP, for tests that are not written in Rust.
//!
//! `PUT /control/scripts/{model}` with a list of turns, `GET` and `DELETE /control/calls`, `POST` and
//! `DELETE /control/gates/{name}` to open and close a gate.

use serde_json::{Value, json};

use super::{
    http::Request,
    script::{Script, Turn},
    server::Shared,
};

/// Status and body of the answer to a request below `/control/`.
pub(super) fn control(shared: &Shared, request: &Request, path: &str) -> (u16, Value) {
    let (what, name) = path.split_once('/').unwrap_or((path, ""));
    let name = decoded(name);
    match (request.method.as_str(), what) {
        ("PUT", "scripts") if !name.is_empty() => {
            match serde_json::from_slice::<Vec<Turn>>(&request.body) {
                Ok(turns) => {
                    shared.script(&name, Script::Turns(turns));
                    (200, json!({"model": name}))
                }
                Err(error) => (400, json!({"error": error.to_string()})),
            }
        }
        ("GET", "calls") => (200, json!(shared.calls())),
        ("DELETE", "calls") => {
            shared.forget_calls();
            (200, json!({}))
        }
        ("POST" | "DELETE", "gates") if !name.is_empty() => {
            shared.set_gate(&name, request.method == "POST");
            (
                200,
                json!({"gate": name, "isOpen": request.method == "POST"}),
            )
        }
        _ => (404, json!({"error": "no such control"})),
    }
}

/// A path's segment without its percent-encoding; what is not one stays.
pub(super) fn decoded(segment: &str) -> String {
    let mut out = Vec::new();
    let mut rest = segment.as_bytes();
    while let [first, after @ ..] = rest {
        let octet = after
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|two| std::str::from_utf8(two).ok());
        match octet.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(octet) => {
                out.push(octet);
                rest = &after[2..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn takes_the_percent_encoding_off() {
        assert_eq!(decoded("a%2Fb%20c"), "a/b c");
        assert_eq!(decoded("100%"), "100%");
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }
}
