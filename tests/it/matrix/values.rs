//! What arguments and inputs are filled with. What stands in none of these tables fails the suite by its name: a new field is given
//! a case here.

use std::collections::BTreeMap;

use async_graphql_parser::types::{FieldDefinition, InputValueDefinition, Type};

use super::sdl::{Sdl, is_list, is_needed, named};

/// Mutations that are about something that is there, and what it is.
const ABOUT: &[(&str, &[&str])] = &[
    ("cancelRun", &["Run"]),
    ("checkModel", &["Model"]),
    ("deleteAgent", &["Agent"]),
    ("deleteConversation", &["Conversation"]),
    ("deleteGroup", &["Group"]),
    ("deleteModel", &["Model"]),
    ("editMessage", &["Message"]),
    ("publishAgent", &["Agent"]),
    ("rateMessage", &["Message"]),
    ("regenerateMessage", &["Message"]),
    ("removeMembership", &["Membership"]),
    ("resetPassword", &["User"]),
    ("restoreAgentVersion", &["Agent"]),
    ("retryRun", &["Run"]),
    ("revokeApiKey", &["ApiKey"]),
    ("revokeInvitation", &["Invitation"]),
    ("revokeSession", &["Session"]),
    ("revokeUserSessions", &["User"]),
    ("setPlatformAdministrator", &["User"]),
    ("setUserActive", &["User"]),
    ("share", &["Agent", "Conversation", "Model"]),
    ("unlinkIdentity", &["Identity"]),
    ("unshare", &["Agent", "Conversation", "Model"]),
    ("updateAgent", &["Agent"]),
    ("updateConversation", &["Conversation"]),
    ("updateGroup", &["Group"]),
    ("updateMembership", &["Membership"]),
    ("updateModel", &["Model"]),
    ("updateTenant", &["Tenant"]),
];

/// Fields that hold ids, and of what; `parentId` is a group's parent or a message's.
const IDS: &[(&str, &str)] = &[
    ("actorId", "User"),
    ("agentId", "Agent"),
    ("conversationId", "Conversation"),
    ("defaultModelId", "Model"),
    ("fallbackIds", "Model"),
    ("groupId", "Group"),
    ("groupIds", "Group"),
    ("leafId", "Message"),
    ("modelId", "Model"),
    ("ownerId", "User"),
    ("runId", "Run"),
    ("targetId", "Conversation"),
    ("tenantId", "Tenant"),
    ("titleModelId", "Model"),
    ("userId", "User"),
];

const TEXTS: &[(&str, &str)] = &[
    ("action", "createAgent"),
    ("apiKey", "sk-intruder"),
    ("baseUrl", "http://127.0.0.1:4999/v1"),
    ("clientId", "intruder"),
    ("code", "nobodys"),
    ("codeVerifier", "nobodys"),
    ("comment", "intruder"),
    ("currency", "EUR"),
    ("currentPassword", "not this one at all"),
    ("description", "intruder"),
    ("email", "intruder@example.test"),
    ("greeting", "intruder"),
    ("instructions", "intruder"),
    ("modelName", "extractive"),
    ("name", "intruder"),
    ("newPassword", "a long enough one"),
    ("notes", "intruder"),
    ("oidcAutoJoinDomains", "intruder.test"),
    ("password", "a long enough one"),
    ("query", "cnry"),
    ("refreshToken", "weft_rt_nobodys"),
    ("slug", "intruder"),
    ("starters", "intruder"),
    ("tenant", "guarded"),
    ("tenantName", "intruder"),
    ("text", "intruder"),
    ("title", "intruder"),
    ("token", "weft_in_nobodys"),
    ("value", "intruder"),
];

const NUMBERS: &[(&str, &str)] = &[
    ("contextWindow", "8000"),
    ("dimensions", "3"),
    ("maxConcurrency", "1"),
    ("maxConcurrentRuns", "1"),
    ("maxOutputTokens", "9"),
    ("maxSteps", "1"),
    ("number", "1"),
    ("retentionDays", "1"),
    ("temperature", "1"),
    ("timeoutMs", "1000"),
    ("uses", "1"),
];

const ENUMS: &[(&str, &str)] = &[
    ("Access", "MANAGE"),
    ("ApiKeyKind", "PERSONAL"),
    ("AuditOutcome", "ALLOWED"),
    ("ModelKind", "CHAT"),
    ("ModelProvider", "BUILTIN"),
    ("Permission", "AGENTS_USE"),
    ("Rating", "DOWN"),
    ("Role", "MEMBER"),
    ("RunStatus", "COMPLETED"),
    ("Visibility", "TENANT"),
    ("WhenBusy", "ROLLBACK"),
];

/// Ids of the tenant's things by type, and what else its things are found by.
#[derive(Clone)]
pub struct Values<'a> {
    pub sdl: &'a Sdl,
    pub ids: BTreeMap<String, Vec<String>>,
    pub names: &'a BTreeMap<(&'static str, &'static str), Vec<String>>,
}

/// One use of a mutation.
pub struct Use {
    pub call: String,
    /// Whether it names something of the tenant's.
    pub names_something: bool,
    /// Whether it has no input that may be left out.
    pub is_least: bool,
}

fn listed<'a>(table: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    let found = table.iter().find(|(listed, _)| *listed == name)?;
    Some(found.1)
}

impl Values<'_> {
    fn of(&self, ty: &str) -> &[String] {
        self.ids.get(ty).map_or(&[], Vec::as_slice)
    }

    /// A root field of a query or subscription in all the ways that find something.
    ///
    /// # Errors
    /// Which argument there is no value for.
    pub fn calls(&self, field: &FieldDefinition) -> Result<Vec<String>, String> {
        let (name, of) = (field.name.node.as_str(), named(&field.ty.node));
        let (mut keyed, mut ways, mut pages) = (Vec::new(), Vec::new(), Vec::new());
        let mut keys = 0;
        for argument in &field.arguments {
            let argument = &argument.node;
            let (known, ty) = (argument.name.node.as_str(), named(&argument.ty.node));
            let id = |id: &String| format!("{known}: \"{id}\"");
            let key = match known {
                "first" => {
                    pages.push("first: 50".to_owned());
                    continue;
                }
                // A cursor is asked for where the caller has one.
                "after" | "before" | "last" | "kinds" => continue,
                "orderBy" => {
                    let values = self.sdl.values(ty).unwrap_or_default();
                    ways.extend(values.iter().map(|value| format!("orderBy: {value}")));
                    continue;
                }
                "filter" => {
                    for input in self.sdl.inputs(ty).unwrap_or_default() {
                        let value = self.value(name, input, None, true);
                        let value = value.map_err(|missing| format!("{name}: {missing}"))?;
                        ways.push(format!("filter: {{ {}: {value} }}", input.name.node));
                    }
                    continue;
                }
                "id" if of == "Node" => self.ids.values().flatten().map(id).collect(),
                "id" => self.of(of).iter().map(id).collect(),
                "ids" => {
                    let all: Vec<&String> = self.ids.values().flatten().collect();
                    // As many as the server takes at once.
                    all.chunks(100)
                        .map(|some| format!("ids: {some:?}"))
                        .collect()
                }
                _ if ty == "ID" => {
                    let of = listed(IDS, known).ok_or(format!("{name}({known}:)"))?;
                    self.of(of).iter().map(id).collect()
                }
                "token" => vec![id(&"weft_in_nobodys".to_owned())],
                "slug" | "path" => {
                    let found = self.names.iter().find(|(key, _)| **key == (of, known));
                    let found = found.ok_or(format!("{name}({known}:) finds no {of}"))?;
                    found.1.iter().map(id).collect()
                }
                _ => return Err(format!("{name}({known}:)")),
            };
            let key: Vec<String> = key;
            if key.is_empty() {
                return Err(format!("{name}({known}:): there is no {of}"));
            }
            keys += 1;
            keyed.extend(key);
            // What may be left out is something by itself, unless it is one of several.
            if !is_needed(argument) && field.arguments.len() == 1 {
                ways.push(String::new());
            }
        }
        if keys == 0 {
            ways.push(String::new());
        }
        ways.extend(keyed);
        let mut calls = Vec::new();
        for way in ways {
            let mut arguments = pages.clone();
            arguments.extend((!way.is_empty()).then_some(way));
            calls.push(if arguments.is_empty() {
                name.to_owned()
            } else {
                format!("{name}({})", arguments.join(", "))
            });
        }
        Ok(calls)
    }

    /// A mutation with all that of the tenant which it may be about, with as little and as much input as it takes.
    ///
    /// # Errors
    /// Which field of the input there is no value for.
    pub fn uses(&self, field: &FieldDefinition) -> Result<Vec<Use>, String> {
        let name = field.name.node.as_str();
        let [input] = &field.arguments[..] else {
            return Err(format!("{name} takes no single input"));
        };
        let input = named(&input.node.ty.node);
        let fields = self.sdl.inputs(input).ok_or(format!("{name}: {input}"))?;
        let is_about = fields.iter().any(|field| field.name.node == "id");
        let about: Vec<Option<&String>> = if is_about {
            let kinds = ABOUT.iter().find(|(listed, _)| *listed == name);
            let kinds = kinds.ok_or(format!("{name}(input: {{ id }})"))?.1;
            let ids = kinds.iter().flat_map(|kind| self.of(kind));
            ids.map(Some).collect()
        } else {
            vec![None]
        };
        if about.is_empty() {
            return Err(format!("{name}: there is nothing that it is about"));
        }
        let mut uses = Vec::new();
        for id in about {
            for all in [false, true] {
                let written = self.input(name, &fields, id, all)?;
                let names_something = self.ids.values().flatten().any(|id| written.contains(id));
                uses.push(Use {
                    call: format!("{name}(input: {written})"),
                    names_something,
                    is_least: !all,
                });
            }
        }
        Ok(uses)
    }

    fn input(
        &self,
        of: &str,
        fields: &[&InputValueDefinition],
        id: Option<&String>,
        all: bool,
    ) -> Result<String, String> {
        let mut written = Vec::new();
        for field in fields {
            let name = field.name.node.as_str();
            if name == "idempotencyKey" || !all && !is_needed(field) {
                continue;
            }
            let value = self.value(of, field, id, all);
            let value = value.map_err(|missing| format!("{of}: {missing}"))?;
            written.push(format!("{name}: {value}"));
        }
        Ok(format!("{{ {} }}", written.join(", ")))
    }

    fn value(
        &self,
        of: &str,
        field: &InputValueDefinition,
        id: Option<&String>,
        all: bool,
    ) -> Result<String, String> {
        let name = field.name.node.as_str();
        let missing = || format!("there is no value for `{name}`");
        let ty: &Type = &field.ty.node;
        let one = match named(ty) {
            "ID" if name == "id" => id.map(|id| format!("\"{id}\"")),
            "ID" => {
                let kind = match (name, of) {
                    ("parentId", "createGroup") => Some("Group"),
                    ("parentId", _) => Some("Message"),
                    _ => listed(IDS, name),
                };
                let first = kind.and_then(|kind| self.of(kind).first());
                first.map(|id| format!("\"{id}\""))
            }
            "String" => listed(TEXTS, name).map(|text| format!("\"{text}\"")),
            "Int" | "Float" | "Long" => listed(NUMBERS, name).map(str::to_owned),
            "Decimal" => Some("\"1\"".to_owned()),
            // Nothing of these would be better true, but for what forces something.
            "Boolean" => Some((name == "force").to_string()),
            "DateTime" if name == "since" => Some("\"2000-01-01T00:00:00Z\"".to_owned()),
            "DateTime" => Some("\"2100-01-01T00:00:00Z\"".to_owned()),
            "GranteeInput" => {
                let user = self.of("User").first().ok_or_else(missing)?;
                Some(format!("{{ userId: \"{user}\" }}"))
            }
            other => match self.sdl.inputs(other) {
                Some(fields) => Some(self.input(of, &fields, None, all)?),
                None => listed(ENUMS, other).map(str::to_owned),
            },
        };
        let one = one.ok_or_else(missing)?;
        Ok(if is_list(ty) { format!("[{one}]") } else { one })
    }
}
