//! The provider as a program: what it prints first, and that it can be controlled from outside.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

/// Ended with the test, however that ends.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

#[tokio::test]
async fn says_where_it_listens_and_does_as_it_is_told() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scripted-provider"));
    let child = command
        .args(["--port", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut program = Program(child);
    let mut line = String::new();
    BufReader::new(program.0.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let base = format!("http://{}", line.trim().strip_prefix("LISTENING ").unwrap());

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let turns = json!([{"steps": [{"text": "as told"}]}]);
    let put = http
        .put(format!("{base}/control/scripts/m"))
        .json(&turns)
        .send()
        .await
        .unwrap();
    assert_eq!(put.status(), 200);
    let body = json!({"model": "m", "messages": []});
    let answer = http
        .post(format!("{base}/v1/chat/completions"))
        .json(&body)
        .send()
        .await
        .unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "as told");
    let calls = http
        .get(format!("{base}/control/calls"))
        .send()
        .await
        .unwrap();
    assert_eq!(calls.json::<Value>().await.unwrap()[0]["model"], "m");
}

#[test]
fn says_how_it_is_used() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scripted-provider"));
    let output = command.arg("--help").output().unwrap();
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("usage: scripted-provider [--port N]")
    );
}
