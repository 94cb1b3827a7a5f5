//! From JSON or a query string to an operation.

use async_graphql::{Extensions, Request, Variables, parser::types::OperationType};
use percent_encoding::percent_decode;
use serde_json::{Map, Value};

use super::{
    Graph, Operation, Refused,
    document::{Documents, Unfit},
    trusted::{Digest, Wanted},
};

/// A request of the GraphQL-over-HTTP specification, well-formed; its document not yet read.
#[derive(Debug)]
pub(super) struct Asked {
    document: Wanted,
    operation_name: Option<String>,
    variables: Map<String, Value>,
    extensions: Map<String, Value>,
}

impl Asked {
    /// From the body of a POST.
    ///
    /// # Errors
    /// INVALID_INPUT naming the field.
    pub(super) fn from_json(body: &[u8]) -> Result<Self, Refused> {
        if let Err(error) = std::str::from_utf8(body) {
            return Err(Refused::invalid(format!(
                "the body is not UTF-8 at byte {}",
                error.valid_up_to()
            )));
        }
        // recursion is bounded by serde_json, at 128
        let value = serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            Refused::invalid(format!(
                "the body is not JSON: {:?} error at line {line}, column {column}",
                error.classify()
            ))
        })?;
        Self::from_value(value)
    }

    /// From the payload of a `subscribe`, or a body.
    ///
    /// # Errors
    /// INVALID_INPUT naming the field.
    pub(super) fn from_value(value: Value) -> Result<Self, Refused> {
        let mut fields = match value {
            Value::Object(fields) => fields,
            Value::Array(_) => {
                return Err(Refused::invalid(
                    "the request must be one JSON object: batches are not accepted",
                ));
            }
            _ => return Err(Refused::invalid("the request must be a JSON object")),
        };
        let mut text = |name: &str| match fields.remove(name) {
            Some(Value::String(text)) => Ok(Some(text)),
            None | Some(Value::Null) => Ok(None),
            Some(_) => Err(Refused::invalid(format!("`{name}` must be a string"))),
        };
        let (query, document_id) = (text("query")?, text("documentId")?);
        let operation_name = match fields.remove("operationName") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) => Some(name),
            Some(_) => return Err(Refused::invalid("`operationName` must be a string or null")),
        };
        let mut object = |name: &str| match fields.remove(name) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(object)) => Ok(object),
            Some(_) => Err(Refused::invalid(format!(
                "`{name}` must be an object or null"
            ))),
        };
        let (variables, extensions) = (object("variables")?, object("extensions")?);
        Ok(Self {
            document: match (&query, &document_id, extensions.get("persistedQuery")) {
                (None, None, None | Some(Value::Null)) => {
                    return Err(Refused::invalid("`query` is missing"));
                }
                _ => wanted(query, document_id, &extensions).unwrap_or_else(Wanted::Nonsense),
            },
            operation_name,
            variables,
            extensions,
        })
    }

    /// From the query string of a GET.
    ///
    /// # Errors
    /// INVALID_INPUT naming the parameter.
    pub(super) fn from_query(query: &str) -> Result<Self, Refused> {
        let mut fields = Map::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
            if !matches!(
                name,
                "query" | "documentId" | "operationName" | "variables" | "extensions"
            ) {
                continue;
            }
            let text = text.replace('+', " ");
            let text = percent_decode(text.as_bytes()).decode_utf8();
            let text =
                text.map_err(|_| Refused::invalid(format!("parameter `{name}` is not UTF-8")))?;
            let value = match name {
                "variables" | "extensions" if !text.is_empty() => serde_json::from_str(&text)
                    .map_err(|_| Refused::invalid(format!("parameter `{name}` is not JSON")))?,
                "documentId" | "operationName" | "variables" | "extensions" if text.is_empty() => {
                    Value::Null
                }
                _ => Value::String(text.into_owned()),
            };
            if fields.insert(name.to_owned(), value).is_some() {
                return Err(Refused::invalid(format!(
                    "parameter `{name}` is there twice"
                )));
            }
        }
        Self::from_value(Value::Object(fields))
    }

    /// The operation asked for.
    ///
    /// # Errors
    /// What [`Documents::read`] refuses, a document that is not known or not trusted, and a name that no operation has.
    pub(super) fn operation(
        self,
        documents: &Documents,
        graph: &impl Graph,
        request_id: String,
    ) -> Result<Operation, Unfit> {
        let query = documents.text(self.document)?;
        let parsed = documents.read(&query, |document| graph.check(document))?;
        let document = parsed.document.clone();
        let name = self.operation_name.as_deref();
        if name.is_none() && document.operations.iter().count() > 1 {
            let message = "`operationName` must name one of the document's operations";
            return Err(Unfit::from(Refused::invalid(message)));
        }
        let Some(operation) = async_graphql::chosen(&document, name) else {
            let name: String = name.unwrap_or_default().chars().take(100).collect();
            return Err(Unfit::from(Refused::invalid(format!(
                "`operationName`: the document has no operation `{}`",
                name.escape_debug()
            ))));
        };
        let kind = operation.ty;
        if kind == OperationType::Mutation && !parsed.roots_once {
            let message = "each field of a mutation must stand once under its name: give it an alias, or leave it out";
            return Err(Unfit::from(Refused::invalid(message)));
        }
        let mut request =
            Request::new(query).variables(Variables::from_json(Value::Object(self.variables)));
        request.operation_name = self.operation_name;
        let extensions = self.extensions.into_iter();
        let extensions = extensions
            .filter_map(|(name, value)| Some((name, async_graphql::Value::from_json(value).ok()?)));
        request.extensions = Extensions(extensions.collect());
        Ok(Operation {
            request,
            document,
            may_be_raw: parsed.may_be_raw,
            kind,
            request_id,
            wants_cursors: false,
            after: None,
        })
    }
}

/// Which document is asked for: by its text, by its digest, or by both.
fn wanted(
    query: Option<String>,
    document_id: Option<String>,
    extensions: &Map<String, Value>,
) -> Result<Wanted, Refused> {
    let document_id = match document_id {
        None => None,
        Some(id) => {
            let digest = id.strip_prefix("sha256:").and_then(Digest::read);
            let expected = "`documentId` must be `sha256:` and 64 hexadecimal digits";
            Some(digest.ok_or_else(|| Refused::invalid(expected))?)
        }
    };
    let persisted = match extensions.get("persistedQuery") {
        None | Some(Value::Null) => None,
        Some(persisted) => {
            let digest = persisted["sha256Hash"].as_str().and_then(Digest::read);
            let digest = digest.filter(|_| persisted["version"] == 1);
            let expected = "`extensions.persistedQuery` must have `version` 1 and a `sha256Hash` of 64 hexadecimal digits";
            Some(digest.ok_or_else(|| Refused::invalid(expected))?)
        }
    };
    if let (Some(a), Some(b)) = (document_id, persisted)
        && a != b
    {
        let message = "`documentId` and `extensions.persistedQuery` ask for different documents";
        return Err(Refused::invalid(message));
    }
    match (query, document_id.or(persisted)) {
        (Some(query), None) => Ok(Wanted::Text(query)),
        (None, Some(digest)) => Ok(Wanted::Digest(digest)),
        (Some(query), Some(digest)) if Digest::of(&query) == digest => Ok(Wanted::Text(query)),
        (Some(_), Some(_)) => Err(Refused::invalid(
            "the digest of the document that is asked for is not that of `query`",
        )),
        (None, None) => Err(Refused::invalid("`query` is missing")),
    }
}

impl Operation {
    pub(super) fn is_subscription(&self) -> bool {
        self.kind == OperationType::Subscription
    }

    pub(super) fn is_mutation(&self) -> bool {
        self.kind == OperationType::Mutation
    }
}
