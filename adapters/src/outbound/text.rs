/// The most characters of a foreign text that are kept.
const KEPT: usize = 500;

/// A foreign error text as it may be shown to those who may change the resource it is about: addresses (`scheme://…`)
/// and the values of `secrets` taken out, controls and invisible marks removed, white space joined, at most 500
/// characters.
#[must_use]
pub fn clean_error_text(text: &str, secrets: &[&str]) -> String {
    // Controls first, so that a secret can't hide behind one within it.
    let mut text = visible(text);
    let mut secrets: Vec<String> = secrets
        .iter()
        .map(|secret| visible(secret))
        .filter(|secret| !secret.is_empty())
        .collect();
    // The longest first: one secret may be a part of another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in &secrets {
        if text.contains(secret.as_str()) {
            text = text.replace(secret.as_str(), "***");
        }
    }
    let text = without_addresses(&text);
    match text.char_indices().nth(KEPT) {
        None => text,
        Some(_) => {
            let mut cut: String = text.chars().take(KEPT - 1).collect();
            cut.push('…');
            cut
        }
    }
}

/// White space joined to one blank each; controls, marks of direction and of no width removed.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_whitespace() => {
                if !out.is_empty() && !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            c if c.is_control() => {}
            '\u{00ad}'
            | '\u{061c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}' => {}
            c => out.push(c),
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// Each `scheme://…` up to the next blank or quote becomes `[address]`.
fn without_addresses(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(colon) = rest.find("://") {
        let before = &rest[..colon];
        let scheme = before
            .rfind(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')))
            .map_or(0, |at| {
                at + before[at..].chars().next().map_or(0, char::len_utf8)
            });
        out.push_str(&before[..scheme]);
        out.push_str("[address]");
        let address = &rest[colon + 3..];
        let end =
            address.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>'));
        // What closes a sentence or a bracket belongs to the text around the address.
        let address = address[..end.unwrap_or(address.len())]
            .trim_end_matches([')', ']', '}', ',', '.', ':', ';']);
        rest = &rest[colon + 3 + address.len()..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_secrets_and_controls_go() {
        for (text, secrets, clean) in [
            ("plain words", &[][..], "plain words"),
            ("", &["x"], ""),
            (
                "error for url (https://u:p@host:8/v1?k=sk-1): refused",
                &[],
                "error for url ([address]): refused",
            ),
            (
                "see \"http://a.b/c\" and wss://d",
                &[],
                "see \"[address]\" and [address]",
            ),
            ("é://x y", &[], "é[address] y"),
            ("over postgres+ssl://u:p@h/db", &[], "over [address]"),
            ("://", &[], "[address]"),
            ("to http://a/b(c)d?e=f, g", &[], "to [address], g"),
            (
                "{\"u\":\"http://a/b\",\"c\":1}",
                &[],
                "{\"u\":\"[address]\",\"c\":1}",
            ),
            ("http://[::1]:80/x y", &[], "[address] y"),
            ("key sk-12345 is wrong", &["sk-12345"], "key *** is wrong"),
            (
                "key sk-12345 is wrong",
                &["sk-1", "sk-12345", ""],
                "key *** is wrong",
            ),
            (
                "key sk\u{0}-1\u{200b}23 is wrong",
                &["sk-123"],
                "key *** is wrong",
            ),
            (
                "a\r\n\tb\u{1b}[31mc\u{7f}\u{202e}d \u{85} ",
                &[],
                "a b[31mcd",
            ),
        ] {
            assert_eq!(clean_error_text(text, secrets), clean, "{text:?}");
        }
    }

    #[test]
    fn at_most_500_characters_stay() {
        assert_eq!(clean_error_text(&"界".repeat(500), &[]), "界".repeat(500));
        let cut = clean_error_text(&"界".repeat(501), &[]);
        assert_eq!(cut.chars().count(), 500);
        assert!(cut.ends_with("界…"));
        let text = format!("{}secret", "x".repeat(497));
        assert!(
            !clean_error_text(&text, &["secret"]).contains("sec"),
            "a secret at the cut is gone as a whole"
        );
    }
}
