//! Where a browser may be sent back to.

use url::{Host, Url};

/// The address that `given` is, if it is one of `entries`. What is answered is the address as it was understood, so that nothing
/// else is gone to than what was compared.
pub(super) fn allowed(entries: &[Url], given: &str) -> Option<Url> {
    let given = Url::parse(given).ok()?;
    if given.fragment().is_some() || !given.username().is_empty() || given.password().is_some() {
        return None;
    }
    entries
        .iter()
        .any(|entry| *entry == given || on_another_port(entry, &given))
        .then_some(given)
}

/// A program on somebody's machine takes whichever port is free (RFC 8252, 7.3).
fn on_another_port(entry: &Url, given: &Url) -> bool {
    is_loopback(entry)
        && entry.scheme() == given.scheme()
        && entry.host() == given.host()
        && entry.path() == given.path()
        && entry.query() == given.query()
}

/// A literal address, not a name that could mean another.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    }
}

/// The way back, with what is told there.
pub(super) fn with(return_to: &Url, state: Option<&str>, name: &str, value: &str) -> String {
    let mut url = return_to.clone();
    let mut query = url.query_pairs_mut();
    query.append_pair(name, value);
    if let Some(state) = state {
        query.append_pair("state", state);
    }
    drop(query);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_named() {
        let entries: Vec<Url> = [
            "https://app.example.com/signed-in",
            "http://127.0.0.1/callback",
            "http://[::1]:9/cli",
            "http://localhost:3000/in",
        ]
        .map(|entry| Url::parse(entry).unwrap())
        .to_vec();
        for (given, good) in [
            ("https://app.example.com/signed-in", true),
            ("https://APP.example.com:443/signed-in", true),
            ("https://app.example.com/signed-in/", false),
            ("https://app.example.com/signed-in?x=1", false),
            ("https://app.example.com/signed-in#x", false),
            ("https://a@app.example.com/signed-in", false),
            ("http://app.example.com/signed-in", false),
            ("https://app.example.com:8443/signed-in", false),
            ("https://app.example.com.evil.example/signed-in", false),
            ("https://app.example.com/signed-in/../other", false),
            ("http://127.0.0.1/callback", true),
            ("http://127.0.0.1:51234/callback", true),
            ("https://127.0.0.1:51234/callback", false),
            ("http://127.0.0.1:51234/callback/x", false),
            ("http://127.0.0.1:51234/", false),
            ("http://127.0.0.2:51234/callback", false),
            ("http://127.0.0.1.evil.example:1/callback", false),
            ("http://127.0.0.1@evil.example/callback", false),
            ("http://localhost:51234/callback", false),
            ("http://[::1]:51234/cli", true),
            ("http://localhost:3000/in", true),
            ("http://localhost:3001/in", false),
            ("javascript:alert(1)", false),
            ("/callback", false),
            ("", false),
        ] {
            assert_eq!(allowed(&entries, given).is_some(), good, "{given}");
        }
    }

    #[test]
    fn the_way_back_keeps_what_was_there() {
        let url = Url::parse("https://app.example.com/in?a=b").unwrap();
        assert_eq!(
            with(&url, Some("x&y=z"), "code", "c"),
            "https://app.example.com/in?a=b&code=c&state=x%26y%3Dz"
        );
        assert_eq!(
            with(&url, None, "error", "no_account"),
            "https://app.example.com/in?a=b&error=no_account"
        );
    }
}
