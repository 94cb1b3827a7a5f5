//! How many runs of a tenant are under way at once, how much one may use, and how long it may take.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use engine::{EngineOptions, send::Sent};
use entities::{
    AgentId, AgentVersionId, MembershipId, ModelId, RunErrorKind, RunStatus, Scope, TenantId,
    ToolCallStatus, Within, agent, agent_version, llm_model, membership, query::*, run, tenant,
    tool_call,
};
use support::provider::{Step, Turn, Usage};

use crate::house::{House, PATIENCE, SYSTEM};

fn limited(max_concurrent_runs: u64) -> EngineOptions {
    EngineOptions {
        max_concurrent_runs,
        titles: false,
        ..EngineOptions::default()
    }
}

/// A tenant with an agent and a model.
struct Neighbour {
    scope: Scope,
    agent: AgentId,
    model: ModelId,
}

impl House {
    /// Another tenant of the same person's, with copies of the agent and of a model.
    async fn another_tenant(&self, model: ModelId) -> Neighbour {
        let clock = self.engine.clock();
        let tx = self.db().begin(Within::Owner(SYSTEM)).await.unwrap();
        let id = TenantId(clock.uuid());
        let row = tenant::Entity::anywhere(SYSTEM).one(&*tx).await.unwrap();
        let row = tenant::Model {
            id,
            slug: "mill".into(),
            ..row.unwrap()
        };
        tenant::Entity::add(&*tx, row).await.unwrap();
        let row = membership::Entity::anywhere(SYSTEM)
            .one(&*tx)
            .await
            .unwrap();
        let row = membership::Model {
            id: MembershipId(clock.uuid()),
            tenant_id: id,
            ..row.unwrap()
        };
        membership::Entity::add(&*tx, row).await.unwrap();
        let version = AgentVersionId(clock.uuid());
        let row = agent::Entity::anywhere(SYSTEM).one(&*tx).await.unwrap();
        let row = agent::Model {
            id: AgentId(clock.uuid()),
            tenant_id: id,
            version_id: version,
            ..row.unwrap()
        };
        let agent = row.id;
        agent::Entity::add(&*tx, row).await.unwrap();
        let row = agent_version::Entity::anywhere(SYSTEM).one(&*tx).await;
        let row = agent_version::Model {
            id: version,
            tenant_id: id,
            agent_id: agent,
            ..row.unwrap().unwrap()
        };
        agent_version::Entity::add(&*tx, row).await.unwrap();
        let row = llm_model::Entity::anywhere(SYSTEM)
            .filter(llm_model::Column::Id.eq(model))
            .one(&*tx)
            .await
            .unwrap();
        let row = llm_model::Model {
            id: ModelId(clock.uuid()),
            tenant_id: id,
            ..row.unwrap()
        };
        let model = row.id;
        llm_model::Entity::add(&*tx, row).await.unwrap();
        tx.commit().await.unwrap();
        let (user, role) = (self.scope.user(), self.scope.role());
        let (permissions, principal) = (self.scope.permissions(), self.scope.principal());
        Neighbour {
            scope: Scope::new(id, user, role.unwrap(), permissions, principal),
            agent,
            model,
        }
    }

    async fn send_as(&self, who: &Neighbour, text: &str) -> Sent {
        let message = engine::send::SendMessage {
            agent: Some(who.agent),
            ..self.message(who.model, None, text)
        };
        let sent = self.engine.send_message(&who.scope, message).await;
        sent.unwrap()
    }

    async fn until_running(&self, sent: Sent) {
        support::wait::until(PATIENCE, "a run begins", async || {
            (self.run(sent.run).await.status == RunStatus::Running).then_some(())
        })
        .await;
    }

    async fn by_status(&self) -> BTreeMap<String, usize> {
        let runs = run::Entity::anywhere(SYSTEM)
            .all(self.db().owner(SYSTEM))
            .await
            .unwrap();
        let mut counts = BTreeMap::new();
        for run in runs {
            *counts.entry(format!("{:?}", run.status)).or_default() += 1;
        }
        counts
    }
}

/// Whoever has reached the limit waits, whichever process has room; the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_at_its_limit_waits_and_others_go_on() {
    let house = House::with(3, limited(2)).await;
    let model = house.gated_by_question("gated").await;
    let neighbour = house.another_tenant(model).await;
    let _other_process = house.neighbour_with(limited(2)).await;
    let first = house.send(model, None, "one").await;
    let second = house.send(model, None, "two").await;
    house.until_running(first).await;
    house.until_running(second).await;
    let waiting = [
        house.send(model, None, "three").await,
        house.send(model, None, "four").await,
    ];
    for gate in ["a", "b", "c", "d"] {
        house.provider.open_gate(gate);
        let other = house.send_as(&neighbour, gate).await;
        let run = house.until_over(other, PATIENCE).await;
        assert_eq!(run.status, RunStatus::Completed);
    }
    let others = [
        house.send_as(&neighbour, "e").await,
        house.send_as(&neighbour, "f").await,
    ];
    for other in others {
        house.until_running(other).await;
    }
    for waits in waiting {
        assert_eq!(house.run(waits.run).await.status, RunStatus::Queued);
    }
    // A place that becomes free is for whoever waited longest, at once.
    house.provider.open_gate("two");
    house.until_over(second, PATIENCE).await;
    house.until_running(waiting[0]).await;
    assert_eq!(house.run(waiting[1].run).await.status, RunStatus::Queued);
    for gate in ["one", "three", "four"] {
        house.provider.open_gate(gate);
    }
    for sent in [first, waiting[0], waiting[1]] {
        let run = house.until_over(sent, PATIENCE).await;
        assert_eq!(run.status, RunStatus::Completed);
    }
}

/// Many at once, in all processes that there are: no more than the limit run, and all of them in the end.
#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_keep_to_the_limit() {
    const LIMIT: u64 = 10;
    let house = House::with(3, limited(LIMIT)).await;
    let other_process = house.neighbour_with(limited(LIMIT)).await;
    house.provider.script(
        "gated",
        Turn::of([
            Step::Head,
            Step::WaitFor("all".into()),
            Step::Text("so".into()),
        ]),
    );
    let model = house.model("gated").await;
    let engines: Vec<_> = [Some(house.engine.clone()), other_process]
        .into_iter()
        .flatten()
        .collect();
    let sending = (0..40).map(|i| {
        let (engine, scope) = (engines[i % engines.len()].clone(), house.scope.clone());
        let message = house.message(model, None, "go");
        tokio::spawn(async move { engine.send_message(&scope, message).await.unwrap() })
    });
    let sending: Vec<_> = sending.collect();
    let mut sent = Vec::new();
    for task in sending {
        sent.push(task.await.unwrap());
    }
    support::wait::until(PATIENCE, "all places are taken", async || {
        let running = house.by_status().await.get("Running").copied();
        (running.unwrap_or_default() as u64 >= LIMIT).then_some(())
    })
    .await;
    // What would be taken up beyond it is taken up within a look or two.
    let looked = house.engine.clock().now() + TimeDelta::seconds(3);
    support::wait::until(PATIENCE, "it was looked again", async || {
        let running = house.by_status().await.get("Running").copied();
        let running = running.unwrap_or_default() as u64;
        assert!(running <= LIMIT, "{running} at once");
        (house.engine.clock().now() > looked).then_some(())
    })
    .await;
    house.provider.open_gate("all");
    for sent in sent {
        let run = house.until_over(sent, PATIENCE).await;
        assert_eq!(run.status, RunStatus::Completed);
    }
}

/// A step that used the rest of it is the last, and what it asked for is not carried out.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_used_its_tokens_fails_before_the_next_call() {
    let options = EngineOptions {
        max_run_tokens: 1000,
        ..limited(10)
    };
    let house = House::with(20, options).await;
    let asks = |output: u64| {
        Turn::of([
            Step::Text("One moment.".into()),
            Step::ToolCall {
                index: 0,
                id: "a".into(),
                name: "weather".into(),
            },
            Step::ToolArguments {
                index: 0,
                text: "{}".into(),
            },
            Step::Usage(Usage {
                input: 400,
                output,
                ..Usage::default()
            }),
            Step::Finish("tool_calls".into()),
        ])
    };
    // 500, then exactly what is allowed, then beyond.
    let turns = vec![asks(100), asks(100), asks(1), Turn::text("never")];
    house.provider.script("greedy", turns);
    let model = house.model("greedy").await;
    let sent = house.ask(model, None, "go").await;
    let (run, answer) = house.run_and_answer(sent).await;
    let error = run.error.unwrap();
    assert_eq!(run.status, RunStatus::Failed);
    assert_eq!(error.kind, RunErrorKind::QuotaExceeded, "{error:?}");
    assert!(!error.retryable);
    assert_eq!(house.provider.calls_of("greedy").len(), 3);
    assert_eq!((run.usage.input, run.usage.output), (1200, 201));
    assert!(answer.parts.text().starts_with("One moment."));
    let calls = tool_call::Entity::anywhere(SYSTEM)
        .filter(tool_call::Column::RunId.eq(sent.run))
        .order_by_asc(tool_call::Column::Step)
        .all(house.db().owner(SYSTEM))
        .await
        .unwrap();
    assert_eq!(
        calls.last().map(|call| call.status),
        Some(ToolCallStatus::Cancelled)
    );
    // An answer that is there is not taken away, however much it used.
    let much = Turn::of([
        Step::Text("Whole.".into()),
        Step::Usage(Usage {
            input: 5000,
            output: 5000,
            ..Usage::default()
        }),
        Step::Finish("stop".into()),
    ]);
    house.provider.script("much", much);
    let model = house.model("much").await;
    let sent = house.ask(model, None, "go").await;
    assert_eq!(house.run(sent.run).await.status, RunStatus::Completed);
}

/// A model that goes on and on is ended in the midst of its step, and what it said stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_a_day_ends_while_it_is_answered() {
    let house = House::new().await;
    let model = house.model("tokens-100000-20").await;
    let sent = house.send(model, None, "go").await;
    house.until_text(sent).await;
    // It began a day ago, but for some seconds, and its worker is lost: which shows when leases are renewed.
    let left = TimeDelta::seconds(10);
    let began = house.engine.clock().now() - TimeDelta::hours(24) + left;
    let change = run::ActiveModel {
        started_at: Set(Some(began)),
        ..Default::default()
    };
    house.change_run(sent.run, change).await;
    house.lapse(sent.run).await;
    let run = house.until_over(sent, PATIENCE).await;
    assert_eq!(run.status, RunStatus::Failed);
    assert_eq!(
        run.error.map(|error| error.kind),
        Some(RunErrorKind::Interrupted)
    );
    let took = run.finished_at.unwrap() - began;
    assert!(took >= TimeDelta::hours(24), "{took}");
    assert_eq!(house.provider.calls_of("tokens-100000-20").len(), 2);
    assert!(
        !house
            .answer(sent.run)
            .await
            .unwrap()
            .parts
            .text()
            .is_empty()
    );
}
