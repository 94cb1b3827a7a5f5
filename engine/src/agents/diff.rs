use entities::agent_version;
use serde_json::{Value, json};

/// What a version changed against another, as a JSON Patch (RFC 6902) of its specification: an object with the input fields that
/// make it (`instructions`, `greeting`, `starters`, `modelId`, `temperature`, `maxOutputTokens`, `maxSteps`), null where absent.
#[must_use]
pub fn diff(from: &agent_version::Model, to: &agent_version::Model) -> Value {
    let patch = json_patch::diff(&document(from), &document(to));
    serde_json::to_value(patch).unwrap_or_default()
}

fn document(version: &agent_version::Model) -> Value {
    let spec = &version.spec;
    json!({
        "instructions": spec.instructions,
        "greeting": spec.greeting,
        "starters": spec.starters,
        "modelId": version.model_id.map(|id| id.to_string()),
        "temperature": spec.temperature,
        "maxOutputTokens": spec.max_output_tokens,
        "maxSteps": spec.max_steps,
    })
}
