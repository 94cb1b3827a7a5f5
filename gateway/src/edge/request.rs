//! From JSON or a query string to an operation.

use async_graphql::{
    Extensions, Positioned, Request, Variables,
    parser::types::{
        DocumentOperations, ExecutableDocument, OperationType, Selection, SelectionSet,
    },
};
use percent_encoding::percent_decode;
use serde_json::{Map, Value};

use super::{Operation, Refused, document::Documents};

/// A request of the GraphQL-over-HTTP specification, well-formed; its document not yet read.
#[derive(Debug)]
pub(super) struct Asked {
    query: String,
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
        let query = match fields.remove("query") {
            Some(Value::String(query)) => query,
            None | Some(Value::Null) => return Err(Refused::invalid("`query` is missing")),
            Some(_) => return Err(Refused::invalid("`query` must be a string")),
        };
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
        Ok(Self {
            query,
            operation_name,
            variables: object("variables")?,
            extensions: object("extensions")?,
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
            if !matches!(name, "query" | "operationName" | "variables" | "extensions") {
                continue;
            }
            let text = text.replace('+', " ");
            let text = percent_decode(text.as_bytes()).decode_utf8();
            let text =
                text.map_err(|_| Refused::invalid(format!("parameter `{name}` is not UTF-8")))?;
            let value = match name {
                "variables" | "extensions" if !text.is_empty() => serde_json::from_str(&text)
                    .map_err(|_| Refused::invalid(format!("parameter `{name}` is not JSON")))?,
                "operationName" | "variables" | "extensions" if text.is_empty() => Value::Null,
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
    /// What [`Documents::read`] refuses, and a name that no operation has.
    pub(super) fn operation(
        self,
        documents: &Documents,
        request_id: String,
    ) -> Result<Operation, Refused> {
        let parsed = documents.read(&self.query)?;
        let document = parsed.document.clone();
        let operation = match (&document.operations, &self.operation_name) {
            (DocumentOperations::Single(operation), None) => operation,
            (DocumentOperations::Multiple(operations), None) => match operations.values().next() {
                Some(operation) if operations.len() == 1 => operation,
                _ => {
                    return Err(Refused::invalid(
                        "`operationName` must name one of the document's operations",
                    ));
                }
            },
            (DocumentOperations::Multiple(operations), Some(name))
                if operations.contains_key(name.as_str()) =>
            {
                &operations[name.as_str()]
            }
            (_, Some(name)) => {
                let name: String = name.chars().take(100).collect();
                return Err(Refused::invalid(format!(
                    "`operationName`: the document has no operation `{}`",
                    name.escape_debug()
                )));
            }
        };
        let kind = operation.node.ty;
        // async-graphql would find these when their field runs, which is an answer with data and too late for a 400
        for variable in &operation.node.variable_definitions {
            let (name, ty) = (&variable.node.name.node, &variable.node.var_type.node);
            let given = match self.variables.get(name.as_str()) {
                None => variable.node.default_value.is_some(),
                Some(value) => !value.is_null(),
            };
            if !given && !ty.nullable {
                let message = format!("the variable `${name}` of type `{ty}` is missing or null");
                return Err(Refused {
                    locations: vec![variable.pos],
                    ..Refused::invalid(message)
                });
            }
        }
        if kind == OperationType::Mutation && !parsed.roots_once {
            let message = "each field of a mutation must stand once under its name: give it an alias, or leave it out";
            return Err(Refused::invalid(message));
        }
        if kind == OperationType::Subscription
            && root_fields(&document, &operation.node.selection_set.node) != 1
        {
            let message = "a subscription has one root field: make each a subscription of its own";
            return Err(Refused::invalid(message));
        }
        let mut request =
            Request::new(self.query).variables(Variables::from_json(Value::Object(self.variables)));
        request.operation_name = self.operation_name;
        let extensions = self.extensions.into_iter();
        let extensions = extensions
            .filter_map(|(name, value)| Some((name, async_graphql::Value::from_json(value).ok()?)));
        request.extensions = Extensions(extensions.collect());
        request.set_parsed_query((*document).clone());
        Ok(Operation {
            request,
            document,
            may_be_raw: parsed.may_be_raw,
            kind,
            request_id,
        })
    }
}

/// How many fields a root has with its fragments, whose depth was measured when the document was read.
fn root_fields(document: &ExecutableDocument, set: &SelectionSet) -> usize {
    let of = |selection: &Positioned<Selection>| match &selection.node {
        Selection::Field(_) => 1,
        Selection::InlineFragment(fragment) => {
            root_fields(document, &fragment.node.selection_set.node)
        }
        // one that is not there is for validation to refuse, with its name
        Selection::FragmentSpread(spread) => document
            .fragments
            .get(&spread.node.fragment_name.node)
            .map_or(1, |fragment| {
                root_fields(document, &fragment.node.selection_set.node)
            }),
    };
    set.items.iter().map(of).sum()
}

impl Operation {
    pub(super) fn is_subscription(&self) -> bool {
        self.kind == OperationType::Subscription
    }

    pub(super) fn is_mutation(&self) -> bool {
        self.kind == OperationType::Mutation
    }
}
