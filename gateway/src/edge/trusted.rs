//! Trusted documents: what clients may ask is known before they ask, by the SHA-256 of its text.

use std::{
    collections::HashMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_graphql::parser::parse_query;
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

use super::{Code, Refused};
use crate::config::{TrustMode, TrustedDocuments};

/// Folders in each other that are looked through.
const DEEPEST: usize = 16;

/// The SHA-256 of a document's text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) fn of(text: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(bytes)
    }

    /// Of 64 hexadecimal digits.
    pub(super) fn read(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            // a sign would be read as well
            let digits = text[at..at + 2].bytes().all(|b| b.is_ascii_hexdigit());
            *byte = digits.then(|| u8::from_str_radix(&text[at..at + 2], 16).ok())??;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which document a request asks for.
#[derive(Debug)]
pub(super) enum Wanted {
    /// The one that it brings along; where it names a digest as well, that is its.
    Text(String),
    /// One that the server must know.
    Digest(Digest),
}

/// Why documents can't be trusted, in one line that names the setting.
#[derive(Debug, thiserror::Error)]
#[error("setting `trusted_documents.folder`: {}: {reason}", .path.display())]
pub struct TrustedError {
    path: PathBuf,
    reason: String,
}

/// Documents that are known before they are asked for, and what becomes of others.
#[derive(Debug, Default)]
pub struct Trusted {
    mode: TrustMode,
    /// `None`: there is no folder.
    documents: Option<HashMap<Digest, Arc<str>>>,
}

impl Trusted {
    /// Reads the folder: `.graphql` and `.gql` files, a document each, and the lists that build tools write, as `.json`: an object
    /// with a document for each digest, or Apollo's manifest of persisted queries.
    ///
    /// # Errors
    /// Something in the folder can't be read or is no document, or is listed under another digest than its own.
    pub fn load(config: &TrustedDocuments) -> Result<Self, TrustedError> {
        let documents = match &config.folder {
            None => None,
            Some(folder) => {
                let mut documents = HashMap::new();
                read_folder(folder, DEEPEST, &mut documents)?;
                tracing::info!(documents = documents.len(), "trusted documents are read");
                Some(documents)
            }
        };
        Ok(Self {
            mode: config.mode,
            documents,
        })
    }

    /// The text of a document, if it may be asked for. Looks at its digest alone.
    ///
    /// # Errors
    /// NOT_FOUND for one that is not known, FORBIDDEN for one that is brought along and not trusted. The first words of the former
    /// are what Apollo's clients look for.
    pub(super) fn text(&self, wanted: Wanted) -> Result<String, Refused> {
        let known = |digest: &Digest| self.documents.as_ref()?.get(digest);
        match wanted {
            Wanted::Digest(digest) => match known(&digest) {
                Some(text) => Ok(text.as_ref().to_owned()),
                None if self.documents.is_none() => {
                    Err(Refused::new(Code::NotFound, "PersistedQueryNotSupported"))
                }
                None => Err(Refused::new(Code::NotFound, "PersistedQueryNotFound")),
            },
            Wanted::Text(text) => {
                if self.mode == TrustMode::Off {
                    return Ok(text);
                }
                let digest = Digest::of(&text);
                if known(&digest).is_some() {
                    return Ok(text);
                }
                if self.mode == TrustMode::Log {
                    tracing::warn!(document = %digest, "a document that is not trusted");
                    return Ok(text);
                }
                Err(Refused::new(
                    Code::Forbidden,
                    "this server answers trusted documents only: ask for one by `documentId`",
                ))
            }
        }
    }
}

type Documents = HashMap<Digest, Arc<str>>;

fn read_folder(folder: &Path, deeper: usize, into: &mut Documents) -> Result<(), TrustedError> {
    let failed = |path: &Path, reason: String| TrustedError {
        path: path.to_owned(),
        reason,
    };
    let Some(deeper) = deeper.checked_sub(1) else {
        return Err(failed(folder, "too many folders in each other".to_owned()));
    };
    let entries = fs::read_dir(folder).map_err(|error| failed(folder, error.to_string()))?;
    for entry in entries {
        let path = entry
            .map_err(|error| failed(folder, error.to_string()))?
            .path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_dir() {
            read_folder(&path, deeper, into)?;
            continue;
        }
        let read = match extension {
            Some("graphql" | "gql") => read_document,
            Some("json") => read_list,
            _ => continue,
        };
        let text = fs::read_to_string(&path).map_err(|error| failed(&path, error.to_string()))?;
        read(&text, into).map_err(|reason| failed(&path, reason))?;
    }
    Ok(())
}

/// A file with one document. Tools print a document without what an editor puts at the end of a file: it goes by both digests.
fn read_document(text: &str, into: &mut Documents) -> Result<(), String> {
    parse_query(text).map_err(|error| error.to_string())?;
    for text in [text, text.trim()] {
        into.insert(Digest::of(text), text.into());
    }
    Ok(())
}

fn read_list(text: &str, into: &mut Documents) -> Result<(), String> {
    let list: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Value::Object(list) = list else {
        return Err("not an object of documents by their digests".to_owned());
    };
    let listed: Vec<(&str, &str)> = match list.get("operations") {
        Some(Value::Array(operations)) => {
            let pairs = operations
                .iter()
                .map(|operation| Some((operation["id"].as_str()?, operation["body"].as_str()?)));
            pairs
                .collect::<Option<_>>()
                .ok_or("an operation of the manifest lacks `id` or `body`")?
        }
        _ => {
            let pairs = list
                .iter()
                .map(|(id, text)| Some((id.as_str(), text.as_str()?)));
            pairs
                .collect::<Option<_>>()
                .ok_or("not an object of documents by their digests")?
        }
    };
    for (id, text) in listed {
        let digest = Digest::of(text);
        if Digest::read(id.strip_prefix("sha256:").unwrap_or(id)) != Some(digest) {
            return Err(format!(
                "`{}` is not the SHA-256 of its document, which is {digest}",
                id.escape_debug()
            ));
        }
        parse_query(text).map_err(|error| format!("{digest}: {error}"))?;
        into.insert(digest, text.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = "{ hello }";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn load(files: &[(&str, &str)], mode: TrustMode) -> Result<Trusted, String> {
        let folder = folder(files);
        let config = TrustedDocuments {
            folder: Some(folder.path().to_owned()),
            mode,
        };
        Trusted::load(&config).map_err(|error| error.to_string())
    }

    fn by_digest(trusted: &Trusted, text: &str) -> Result<String, String> {
        let wanted = Wanted::Digest(Digest::of(text));
        trusted.text(wanted).map_err(|refused| refused.message)
    }

    #[test]
    fn digests() {
        // of FIPS 180-4's example
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of("abc").to_string(), abc);
        assert_eq!(Digest::read(abc), Some(Digest::of("abc")));
        assert_eq!(Digest::read(&abc.to_uppercase()), Some(Digest::of("abc")));
        for bad in ["", &abc[1..], &format!("+{}", &abc[1..]), &"ä".repeat(32)] {
            assert_eq!(Digest::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_a_folder_may_hold() {
        let (a, b, c) = ("query A { a }", "query B { b }", "query C { c }");
        let list = format!(
            "{{\"{}\": \"{a}\", \"sha256:{}\": \"{b}\"}}",
            Digest::of(a),
            Digest::of(b)
        );
        let manifest = format!(
            "{{\"format\": \"apollo-persisted-query-manifest\", \"version\": 1, \"operations\": [{{\"id\": \"{}\", \"body\": \"{c}\", \"name\": \"C\", \"type\": \"query\"}}]}}",
            Digest::of(c)
        );
        let files = [
            ("app/hello.graphql", "{ hello }\n"),
            ("list.json", &list),
            ("manifest.json", &manifest),
            ("README.md", "# not a document"),
        ];
        let trusted = load(&files, TrustMode::Require).unwrap();
        for text in [HELLO, "{ hello }\n", a, b, c] {
            assert_eq!(by_digest(&trusted, text).as_deref(), Ok(text));
            assert!(trusted.text(Wanted::Text(text.to_owned())).is_ok());
        }
        assert!(
            by_digest(&trusted, "{ other }")
                .unwrap_err()
                .contains("PersistedQueryNotFound")
        );
    }

    #[test]
    fn what_is_wrong_with_a_folder_is_told() {
        let wrong = format!("{{\"{}\": \"{{ other }}\"}}", Digest::of(HELLO));
        for (name, text, expected) in [
            ("a.graphql", "{ hello", "a.graphql"),
            ("a.json", "[1]", "not an object"),
            ("a.json", "{\"x\": 1}", "not an object"),
            ("a.json", "{\"operations\": [{\"id\": \"x\"}]}", "`body`"),
            ("a.json", &wrong, "is not the SHA-256"),
            ("a.json", "{", "a.json"),
        ] {
            let error = load(&[(name, text)], TrustMode::Off).unwrap_err();
            assert!(
                error.contains("`trusted_documents.folder`") && error.contains(expected),
                "{error}"
            );
        }
        let missing = TrustedDocuments {
            folder: Some("/nowhere/at/all".into()),
            mode: TrustMode::Off,
        };
        assert!(Trusted::load(&missing).is_err());
    }

    #[test]
    fn modes() {
        for (mode, expected) in [
            (TrustMode::Off, None),
            (TrustMode::Log, None),
            (TrustMode::Require, Some(Code::Forbidden)),
        ] {
            let trusted = load(&[("a.graphql", HELLO)], mode).unwrap();
            // not even a document: it is refused before it is parsed
            let answered = trusted.text(Wanted::Text("{ no document".to_owned()));
            assert_eq!(answered.err().map(|refused| refused.code), expected);
            assert!(by_digest(&trusted, HELLO).is_ok());
        }
        let none = Trusted::default();
        assert!(
            by_digest(&none, HELLO)
                .unwrap_err()
                .contains("PersistedQueryNotSupported")
        );
        assert!(none.text(Wanted::Text(HELLO.to_owned())).is_ok());
    }
}
