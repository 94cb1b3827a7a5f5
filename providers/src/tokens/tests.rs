use std::sync::Arc;
use std::time::Duration;

use adapters::tasks::Tasks;
use serde_json::json;
use tiktoken_rs::{ChatCompletionRequestMessage, FunctionCall, num_tokens_from_messages};
use tokio::time::timeout;

use super::*;
use crate::chat::{Reasoning, ToolCallRequest, ToolSpec};

const ENGLISH: &str = "A loom holds the warp under tension, so that the weft can be drawn through it. The weaver throws the shuttle \
    from hand to hand; each pass is beaten against the cloth, and what was 1,024 threads becomes a yard of linen by evening.\n\n";
const CHINESE: &str = "织机把经线绷紧，纬线才能从中穿过。织工把梭子从一只手抛到另一只手，每一次投梭之后都要把纬线打紧，到了傍晚，\
    一千零二十四根线就成了一匹布。\n";
const CODE: &str = "fn weave(warp: &[Thread], weft: &mut Shuttle) -> Result<Cloth, Snag> {\n    let mut cloth = Cloth::with_capacity(warp.len());\n    \
    for (i, thread) in warp.iter().enumerate() {\n        if i % 2 == 0 { weft.over(thread)?; } else { weft.under(thread)?; }\n    }\n    Ok(cloth)\n}\n";

fn said(role: &str, text: &str) -> ChatCompletionRequestMessage {
    ChatCompletionRequestMessage {
        role: role.to_owned(),
        content: Some(text.to_owned()),
        ..ChatCompletionRequestMessage::default()
    }
}

/// A conversation, as we have it and as the other implementation wants it.
fn conversation(text: &str, turns: usize) -> (ChatRequest, Vec<ChatCompletionRequestMessage>) {
    let (mut messages, mut theirs) = (Vec::new(), vec![said("system", text)]);
    for turn in 0..turns {
        let question = text.repeat(1 + turn % 3);
        let answer = text.repeat(2 + turn % 7);
        theirs.push(said("user", &question));
        theirs.push(said("assistant", &answer));
        messages.push(ChatMessage::User { text: question });
        messages.push(ChatMessage::Assistant {
            text: answer,
            reasoning: vec![],
            tool_calls: vec![],
        });
    }
    let arguments = json!({ "pattern": text }).to_string();
    theirs.push(ChatCompletionRequestMessage {
        tool_calls: vec![FunctionCall {
            name: "look_up".to_owned(),
            arguments: arguments.clone(),
        }],
        ..said("assistant", "")
    });
    theirs.push(said("tool", text));
    messages.push(ChatMessage::Assistant {
        text: String::new(),
        reasoning: vec![],
        tool_calls: vec![ToolCallRequest {
            id: "call_1".to_owned(),
            name: "look_up".to_owned(),
            arguments,
            thought_signature: None,
        }],
    });
    messages.push(ChatMessage::ToolResult {
        call_id: "call_1".to_owned(),
        name: "look_up".to_owned(),
        content: text.to_owned(),
        is_error: false,
    });
    let request = ChatRequest {
        system: Some(text.to_owned()),
        messages,
        ..ChatRequest::default()
    };
    (request, theirs)
}

#[test]
fn requests_are_counted_as_openai_counts_them() {
    for model in ["gpt-4o", "gpt-4", "gpt-5-mini", "o3"] {
        for text in [ENGLISH, CHINESE, CODE] {
            for turns in [1, 40] {
                let (ours, theirs) = conversation(text, turns);
                let counter = TokenCounter::of(Provider::OpenAi, model);
                let counted = counter.weigh(&ours);
                assert_eq!(counted.messages.len(), ours.messages.len());
                let expected = num_tokens_from_messages(model, &theirs).expect("a chat model");
                let off = counted.total() as f64 / expected as f64 - 1.0;
                let most = if turns == 1 { 0.05 } else { 0.01 };
                assert!(
                    off.abs() < most,
                    "{model}, {turns} turns of {text}: {} for {expected}",
                    counted.total()
                );
                assert!(counter.at_most(&ours) >= counted.total());
            }
        }
    }
}

#[test]
fn texts_without_an_end_of_words_are_counted_in_time() {
    let counter = TokenCounter::of(Provider::OpenAi, "gpt-4o");
    let random = (0..200_000_u64).map(|at| {
        let number = (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % 62;
        char::from(
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"[number as usize],
        )
    });
    let texts: Vec<String> = vec![
        "a".repeat(200_000),
        random.collect(),
        " ".repeat(2_000_000),
        "\n".repeat(500_000),
        " \n".repeat(200_000),
        "语".repeat(200_000),
        "<|endoftext|>".repeat(20_000),
        "🧵\u{200d}".repeat(50_000),
        "'s".repeat(100_000),
        "=".repeat(300_000),
    ];
    let begun = tokio::time::Instant::now();
    let counts = counter.count_each(&texts);
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "{:?}",
        begun.elapsed()
    );
    for (text, tokens) in texts.iter().zip(counts) {
        let start: String = text.chars().take(12).collect();
        assert!(
            tokens > 0 && tokens <= text.len() as u64,
            "{start}: {tokens}"
        );
    }
}

#[test]
fn one_long_word_is_counted_as_the_whole_would_be() {
    let word: String = (0..60_000_u32)
        .map(|at| char::from(b'a' + (at * at % 26) as u8))
        .collect();
    let exact = tiktoken_rs::o200k_base_singleton()
        .encode_ordinary(&word)
        .len() as f64;
    let ours = TokenCounter::of(Provider::OpenAi, "gpt-4o").count_each(&[word])[0] as f64;
    assert!((ours / exact - 1.0).abs() < 0.01, "{ours} for {exact}");
}

#[tokio::test]
async fn counting_apart_is_counting() {
    let tasks = Tasks::new();
    let counter = TokenCounter::of(Provider::Anthropic, "claude-sonnet-4-5");
    let request = Arc::new(conversation(ENGLISH, 3).0);
    let weights = counter.weigh_apart(&tasks, request.clone()).await;
    assert_eq!(weights, counter.weigh(&request));
    assert!(weights.total() < counter.at_most(&request) / 2);
    let closed = timeout(
        Duration::from_secs(30),
        tasks.close(Duration::from_secs(20)),
    );
    assert!(closed.await.expect("in time"));
}

#[test]
fn everything_that_is_sent_counts() {
    let (plain, _) = conversation(ENGLISH, 2);
    let mut richer = plain.clone();
    richer.tools.push(ToolSpec {
        name: "look_up".to_owned(),
        description: "Looks a word up.".to_owned(),
        parameters: json!({"type": "object", "properties": {"pattern": {"type": "string"}}}),
    });
    if let Some(ChatMessage::Assistant { reasoning, .. }) = richer.messages.get_mut(1) {
        reasoning.push(Reasoning {
            text: ENGLISH.to_owned(),
            ..Reasoning::default()
        });
    }
    let weigh = |provider, request| TokenCounter::of(provider, "m").weigh(request);
    let (before, after) = (
        weigh(Provider::Anthropic, &plain),
        weigh(Provider::Anthropic, &richer),
    );
    assert!(after.fixed > before.fixed + 15);
    assert!(after.messages[1] > before.messages[1] + 40);
    // OpenAI's take no thoughts back
    assert_eq!(
        weigh(Provider::OpenAi, &richer).messages,
        weigh(Provider::OpenAi, &plain).messages
    );
    let nothing = TokenCounter::of(Provider::Builtin, "extractive").weigh(&ChatRequest::default());
    assert_eq!(
        nothing,
        Weights {
            fixed: 3,
            messages: vec![]
        }
    );
}
