use serde_json::{Value, json};

use super::{Lists, Talk};

/// An event with its number as the cursor.
fn event(seq: u32, kind: &str, rest: Value) -> Value {
    let mut event = json!({"__typename": kind, "cursor": seq.to_string()});
    if let (Value::Object(event), Value::Object(rest)) = (&mut event, rest) {
        event.extend(rest);
    }
    event
}

fn message(id: &str, role: &str, parent: Option<&str>, run: &str, at: u32) -> Value {
    let status = if role == "USER" {
        "COMPLETE"
    } else {
        "STREAMING"
    };
    json!({
        "id": id, "role": role, "status": status, "parentId": parent, "run": {"id": run}, "parts": [],
        "createdAt": format!("2026-01-01T00:00:{at:02}Z"),
    })
}

fn created(seq: u32, message: &Value) -> Value {
    event(
        seq,
        "MessageCreated",
        json!({"messageId": message["id"], "message": message}),
    )
}

fn run(seq: u32, kind: &str, id: &str, status: &str, input: &str) -> Value {
    let at = format!("2026-01-01T00:01:0{}Z", &id[1..]);
    let run = json!({"id": id, "status": status, "input": {"id": input}, "createdAt": at});
    event(seq, kind, json!({"runId": id, "run": run}))
}

fn said(seq: u32, message: &str, part: u32, offset: u32, text: &str) -> Value {
    let delta = json!({"messageId": message, "part": part, "offset": offset, "text": text});
    event(seq, "TextDelta", delta)
}

fn begun() -> Talk {
    let mut talk = Talk::begin(&json!({"cursor": "0", "conversation": {"id": "c"}}));
    for event in [
        created(1, &message("q1", "USER", None, "r1", 1)),
        run(2, "RunQueued", "r1", "QUEUED", "q1"),
        run(3, "RunStarted", "r1", "RUNNING", "q1"),
        created(4, &message("a1", "ASSISTANT", Some("q1"), "r1", 4)),
    ] {
        talk.apply(&event);
    }
    talk
}

fn branch(talk: &Talk) -> Vec<String> {
    let messages = talk.messages();
    let ids = messages.iter().filter_map(|message| message["id"].as_str());
    ids.map(str::to_owned).collect()
}

fn text_of(talk: &Talk, at: usize) -> Value {
    talk.messages()[at]["parts"][0]["text"].clone()
}

#[test]
fn to_apply_an_event_twice_changes_nothing() {
    let mut talk = begun();
    let events = [
        said(5, "a1", 0, 0, "🧵 one "),
        said(6, "a1", 0, 7, "two"),
        event(
            7,
            "StepRestarted",
            json!({"messageId": "a1", "fromPart": 0, "step": 0}),
        ),
        said(8, "a1", 0, 0, "another "),
        said(9, "a1", 0, 8, "one"),
    ];
    for event in &events {
        talk.apply(event);
        let once = talk.shown();
        talk.apply(event);
        assert_eq!(talk.shown(), once);
    }
    assert_eq!(text_of(&talk, 1), "another one");
    assert_eq!(talk.wants(), None);
}

#[test]
fn what_is_missing_is_asked_for() {
    let mut talk = begun();
    talk.apply(&said(5, "a1", 0, 4, "late"));
    assert_eq!(talk.wants().as_deref(), Some("a1"));
    let mut whole = message("a1", "ASSISTANT", Some("q1"), "r1", 4);
    whole["parts"] = json!([{"__typename": "TextPart", "index": 0, "text": "too late"}]);
    let above = message("q1", "USER", None, "r1", 1);
    talk.take_branch(&json!({"nodes": [above, whole]}));
    assert_eq!(talk.wants(), None);
    assert_eq!(text_of(&talk, 1), "too late");

    // A branch that somebody else chose.
    talk.apply(&event(
        6,
        "ConversationUpdated",
        json!({"conversation": {"id": "c", "leaf": {"id": "elsewhere"}}}),
    ));
    assert_eq!(talk.wants().as_deref(), Some("elsewhere"));
    assert!(branch(&talk).is_empty());
}

#[test]
fn an_answer_that_waits_stands_between_what_shows() {
    let mut talk = begun();
    // Another question hangs on an answer that has yet to begin.
    talk.apply(&created(5, &message("q2", "USER", Some("a1"), "r2", 5)));
    talk.apply(&run(6, "RunQueued", "r2", "QUEUED", "q2"));
    talk.apply(&created(7, &message("q3", "USER", Some("a2"), "r3", 7)));
    talk.apply(&run(8, "RunQueued", "r3", "QUEUED", "q3"));
    assert_eq!(talk.wants().as_deref(), Some("q3"));
    let nodes: Vec<Value> = [
        message("q1", "USER", None, "r1", 1),
        message("a1", "ASSISTANT", Some("q1"), "r1", 4),
        message("q2", "USER", Some("a1"), "r2", 5),
        message("q3", "USER", Some("a2"), "r3", 7),
    ]
    .into();
    talk.take_branch(&json!({ "nodes": nodes }));
    assert_eq!(talk.wants(), None);
    assert_eq!(branch(&talk), ["q1", "a1", "q2", "q3"]);
    // It begins, and stands where it was waited for; the end of the branch is another's.
    talk.apply(&run(9, "RunStarted", "r2", "RUNNING", "q2"));
    talk.apply(&created(
        10,
        &message("a2", "ASSISTANT", Some("q2"), "r2", 10),
    ));
    assert_eq!(branch(&talk), ["q1", "a1", "q2", "a2", "q3"]);
    // Its turn is undone.
    let mut moved = message("q3", "USER", Some("a1"), "r3", 7);
    moved["parts"] = json!([]);
    talk.apply(&event(
        11,
        "MessageUpdated",
        json!({"messageId": "q3", "message": moved}),
    ));
    talk.apply(&event(
        12,
        "MessagesRemoved",
        json!({"messageIds": ["q2", "a2"]}),
    ));
    assert_eq!(branch(&talk), ["q1", "a1", "q3"]);
}

#[test]
fn of_answers_that_were_asked_for_again_the_last_one_shows() {
    let mut talk = begun();
    talk.apply(&run(5, "RunQueued", "r2", "QUEUED", "q1"));
    talk.apply(&run(6, "RunQueued", "r3", "QUEUED", "q1"));
    let asked = json!({"conversation": {"id": "c", "leaf": {"id": "q1"}}});
    talk.apply(&event(7, "ConversationUpdated", asked));
    talk.apply(&run(8, "RunStarted", "r2", "RUNNING", "q1"));
    talk.apply(&created(
        9,
        &message("a2", "ASSISTANT", Some("q1"), "r2", 9),
    ));
    assert_eq!(branch(&talk), ["q1"]);
    talk.apply(&run(10, "RunStarted", "r3", "RUNNING", "q1"));
    talk.apply(&created(
        11,
        &message("a3", "ASSISTANT", Some("q1"), "r3", 11),
    ));
    assert_eq!(branch(&talk), ["q1", "a3"]);
    let siblings = talk.messages()[1]["siblings"].clone();
    let ids: Vec<&Value> = siblings
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["id"])
        .collect();
    assert_eq!(ids, ["a1", "a2", "a3"]);
}

#[test]
fn lists_follow_what_changes() {
    let row = |id: &str, at: &str, archived: bool| json!({"id": id, "lastActivityAt": at, "isArchived": archived, "agent": {"id": "g", "name": "Weaver"}});
    let sidebar = json!({"viewer": {"cursor": "0"}, "conversations": {"nodes": [
        row("b", "2026-01-01T00:00:02.5Z", false), row("a", "2026-01-01T00:00:02Z", false),
    ]}});
    let pickers = json!({"agents": {"nodes": [{"id": "g", "name": "Weaver", "isEnabled": true}]}, "models": {"nodes": []}});
    let mut lists = Lists::open(&sidebar, &pickers);
    assert_eq!(lists.shown(), Lists::answered(&sidebar, &pickers));
    let change = |kind: &str, action: &str, id: &str, object: (&str, Value)| {
        let mut change = json!({"__typename": kind, "cursor": "1", "action": action, "id": id});
        change[object.0] = object.1;
        change
    };
    let ids = |lists: &Lists| {
        let rows = lists.sidebar();
        rows.iter()
            .map(|row| super::text(&row["id"]))
            .collect::<Vec<_>>()
    };
    let newer = row("a", "2026-01-01T00:00:03Z", false);
    lists.apply(&change(
        "ConversationChange",
        "UPDATED",
        "a",
        ("conversation", newer),
    ));
    assert_eq!(ids(&lists), ["a", "b"]);
    let renamed = json!({"id": "g", "name": "Spinner", "isEnabled": true});
    lists.apply(&change("AgentChange", "UPDATED", "g", ("agent", renamed)));
    assert_eq!(lists.sidebar()[0]["agent"]["name"], "Spinner");
    lists.apply(&change(
        "AgentChange",
        "DELETED",
        "g",
        ("agent", Value::Null),
    ));
    assert!(lists.agents().is_empty());
    assert_eq!(lists.sidebar()[0]["agent"]["name"], "Spinner");
    let aside = row("a", "2026-01-01T00:00:03Z", true);
    lists.apply(&change(
        "ConversationChange",
        "UPDATED",
        "a",
        ("conversation", aside),
    ));
    lists.apply(&change(
        "ConversationChange",
        "DELETED",
        "b",
        ("conversation", Value::Null),
    ));
    assert!(ids(&lists).is_empty());
}
