//! The limits of what comes in, and the refusals that name them.

use crate::Refusal;

/// Characters of a name.
pub const NAME: usize = 200;
/// Characters of an agent's instructions.
pub const INSTRUCTIONS: usize = 100_000;
/// Characters of a description.
pub const DESCRIPTION: usize = 10_000;

/// A text that may be empty: at most `limit` characters, no NUL.
///
/// # Errors
/// Names the field, the limit and the length.
pub fn text(path: &[&str], value: &str, limit: usize) -> Result<(), Refusal> {
    let field = path.last().copied().unwrap_or_default();
    if value.contains('\0') {
        return Err(Refusal::invalid(
            path,
            format!("{field} must not contain NUL"),
        ));
    }
    let length = value.chars().count();
    if length > limit {
        return Err(Refusal::beyond(
            path,
            format!("{field} has {length} characters, at most {limit} are allowed"),
            signed(limit),
            signed(length),
        ));
    }
    Ok(())
}

/// A text that must say something.
///
/// # Errors
/// As [`text`], and where it is empty or only white space.
pub fn filled(path: &[&str], value: &str, limit: usize) -> Result<(), Refusal> {
    text(path, value, limit)?;
    if value.trim().is_empty() {
        let field = path.last().copied().unwrap_or_default();
        return Err(Refusal::invalid(path, format!("{field} must not be empty")));
    }
    Ok(())
}

/// A short name for addresses: `[a-z0-9-]{1,63}`.
///
/// # Errors
/// Names the form and the value.
pub fn slug(path: &[&str], value: &str) -> Result<(), Refusal> {
    let fits = (1..=63).contains(&value.len())
        && value
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits {
        Ok(())
    } else {
        Err(Refusal::invalid(
            path,
            format!(
                "slug must match [a-z0-9-]{{1,63}}, got {:?}",
                shortened(value)
            ),
        ))
    }
}

/// A number within bounds, both included.
///
/// # Errors
/// Names the field, the bound that was passed and the value.
pub fn range(path: &[&str], value: i64, least: i64, most: i64) -> Result<(), Refusal> {
    let field = path.last().copied().unwrap_or_default();
    let limit = if value < least { least } else { most };
    if value == value.clamp(least, most) {
        Ok(())
    } else {
        Err(Refusal::beyond(
            path,
            format!("{field} must be from {least} to {most}, got {value}"),
            limit,
            value,
        ))
    }
}

/// A slug made of a name: lower case ASCII letters, digits and single hyphens; `fallback` where nothing of the name is left.
#[must_use]
pub fn slug_of(name: &str, fallback: &str) -> String {
    let mut slug = String::new();
    for letter in name.chars() {
        if letter.is_ascii_alphanumeric() {
            slug.push(letter.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() == 55 {
            break;
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() {
        fallback.to_owned()
    } else {
        slug.to_owned()
    }
}

fn shortened(value: &str) -> String {
    value.chars().take(80).collect()
}

fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs() {
        assert_eq!(slug_of("  My first Agent! ", "agent"), "my-first-agent");
        assert_eq!(slug_of("智能体", "agent"), "agent");
        assert!(slug(&["slug"], &slug_of(&"x".repeat(300), "x")).is_ok());
        assert!(slug(&["slug"], "Nope").is_err());
        assert!(slug(&["slug"], "").is_err());
    }
}
