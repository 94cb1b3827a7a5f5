//! Taking a run up: for the first time, or from a worker that was lost. In a command that holds the stream's lock.

use entities::{
    AgentSpec, CommandError, MessageStatus, ModelId, ModelKind, ModelProvider, RunError,
    RunErrorKind, RunStatus, SystemScope, ToolCallStatus, agent, agent_version, conversation,
    llm_model, message, query::*, run, tenant, tool_call,
};
use events::Command;

use crate::{
    Engine, LEASE,
    end::{self, Ending},
    event::{Body, MessageFacts, RunFacts},
};

pub(crate) const SYSTEM: SystemScope = SystemScope::of("carrying runs");

/// Workers that may be lost within one step before the run fails.
const LOSSES: i32 = 5;

/// A run that this process holds.
pub(crate) struct Started {
    pub(crate) run: run::Model,
    pub(crate) answer: message::Model,
    pub(crate) spec: AgentSpec,
    pub(crate) model: llm_model::Model,
    pub(crate) currency: String,
    pub(crate) fence: i64,
    pub(crate) head: i64,
}

/// Takes up a QUEUED run that nothing stands before, where fewer than `places` runs of its tenant are RUNNING, or than it allows itself, some of
/// which are left where `leaves_some`. `None`: there is no
/// place, somebody was quicker, or it failed at once.
pub(crate) async fn start(
    engine: &Engine,
    c: &mut Command,
    mut run: run::Model,
    mut answer: message::Model,
    (places, leaves_some): (u64, bool),
) -> Result<Option<Started>, CommandError> {
    let stream = run.conversation_id.0;
    let (spec, model, currency) = match equip(c, &mut run).await? {
        Ok(equipped) => equipped,
        Err(error) => {
            if !run::Entity::is_next(SYSTEM, &**c.tx(), &run).await? {
                return Ok(None);
            }
            reveal(c, &run, &mut answer).await?;
            conversation::Entity::change_anywhere(SYSTEM)
                .filter(conversation::Column::Id.eq(run.conversation_id))
                .set(conversation::ActiveModel {
                    last_message_id: Set(Some(answer.id)),
                    ..Default::default()
                })
                .exec(&**c.tx())
                .await?;
            end::end(c, run, answer, Ending::failed(error)).await?;
            return Ok(None);
        }
    };
    let now = c.now();
    if !run::Entity::take(
        c.tx(),
        &run,
        engine.worker(),
        now,
        LEASE,
        places,
        leaves_some,
    )
    .await?
    {
        return Ok(None);
    }
    run.status = RunStatus::Running;
    run.attempt += 1;
    run.started_at = run.started_at.or(Some(now));
    run.owner = Some(engine.worker());
    c.raise_fence(stream);
    c.append(
        stream,
        Some((run.id, run.attempt)),
        Body::RunStarted {
            attempt: run.attempt,
            run: RunFacts::of(&run),
        }
        .draft(),
    );
    reveal(c, &run, &mut answer).await?;
    c.append(
        stream,
        Some((run.id, run.attempt)),
        Body::StepStarted { step: 0 }.draft(),
    );
    run::Entity::change_anywhere(SYSTEM)
        .filter(run::Column::Id.eq(run.id))
        .set(run::ActiveModel {
            agent_version_id: Set(run.agent_version_id),
            primary_model_id: Set(run.primary_model_id),
            model_id: Set(run.model_id),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    conversation::Entity::change_anywhere(SYSTEM)
        .filter(conversation::Column::Id.eq(run.conversation_id))
        .set(conversation::ActiveModel {
            active_run_id: Set(Some(run.id)),
            last_message_id: Set(Some(answer.id)),
            last_activity_at: Set(now),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    end::tell(c, &run).await?;
    let (fence, head) = (c.fence(stream), c.head(stream));
    Ok(Some(Started {
        run,
        answer,
        spec,
        model,
        currency,
        fence,
        head,
    }))
}

/// Takes up a RUNNING run whose lease has lapsed: what its step had said so far is said again. `None`: it failed, having lost
/// its workers too often, or somebody was quicker.
pub(crate) async fn resume(
    engine: &Engine,
    c: &mut Command,
    mut run: run::Model,
) -> Result<Option<Started>, CommandError> {
    let stream = run.conversation_id.0;
    let Some(answer) = message::Entity::anywhere(SYSTEM)
        .filter(message::Column::Id.eq(run.output_message_id))
        .one(&**c.tx())
        .await?
    else {
        return Err(CommandError::Internal(format!("{} has no answer", run.id)));
    };
    let in_tools = tool_call::Entity::anywhere(SYSTEM)
        .filter(tool_call::Column::RunId.eq(run.id))
        .filter(tool_call::Column::Step.lt(run.steps))
        .filter(tool_call::Column::Status.is_in([ToolCallStatus::Pending, ToolCallStatus::Running]))
        .one(&**c.tx())
        .await?
        .is_some();
    let said = crate::live::of(c.tx(), std::slice::from_ref(&answer))
        .await?
        .remove(&answer.id)
        .unwrap_or_default();
    if !in_tools {
        // What was said of the step was paid for, and will be again.
        crate::cancel::book_estimate(c, &mut run, &answer, &said, "lost").await?;
    }
    // Whoever gave it back in order is no loss.
    if run.owner.is_some() {
        run.losses += 1;
        run.losses_in_step += 1;
    }
    let equipped = if run.losses_in_step >= LOSSES {
        Err(RunError {
            kind: RunErrorKind::Interrupted,
            message: format!("the run lost its worker {LOSSES} times within one step"),
            detail: None,
            retryable: true,
        })
    } else {
        equip(c, &mut run).await?
    };
    let (spec, model, currency) = match equipped {
        Ok(equipped) => equipped,
        Err(error) => {
            end::end(
                c,
                run,
                answer,
                Ending {
                    parts: Some(said),
                    ..Ending::failed(error)
                },
            )
            .await?;
            return Ok(None);
        }
    };
    let now = c.now();
    // It has its place already.
    if !run::Entity::take(c.tx(), &run, engine.worker(), now, LEASE, u64::MAX, false).await? {
        return Ok(None);
    }
    run.attempt += 1;
    run.owner = Some(engine.worker());
    c.raise_fence(stream);
    let by = Some((run.id, run.attempt));
    c.append(
        stream,
        by,
        Body::RunStarted {
            attempt: run.attempt,
            run: RunFacts::of(&run),
        }
        .draft(),
    );
    if !in_tools {
        tool_call::Entity::delete_anywhere(SYSTEM)
            .filter(tool_call::Column::RunId.eq(run.id))
            .filter(tool_call::Column::Step.gte(run.steps))
            .exec(&**c.tx())
            .await?;
        let from_part = u32::try_from(answer.parts.0.len()).unwrap_or(u32::MAX);
        let reason = "the worker was lost".to_owned();
        c.append(
            stream,
            by,
            Body::StepRestarted {
                step: run.steps,
                reason,
                message: answer.id,
                from_part,
            }
            .draft(),
        );
    }
    run::Entity::change_anywhere(SYSTEM)
        .filter(run::Column::Id.eq(run.id))
        .set(run::ActiveModel {
            losses: Set(run.losses),
            losses_in_step: Set(run.losses_in_step),
            usage: Set(run.usage.clone()),
            primary_model_id: Set(run.primary_model_id),
            model_id: Set(run.model_id),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    end::tell(c, &run).await?;
    let (fence, head) = (c.fence(stream), c.head(stream));
    Ok(Some(Started {
        run,
        answer,
        spec,
        model,
        currency,
        fence,
        head,
    }))
}

/// The answer begins to show.
async fn reveal(
    c: &mut Command,
    run: &run::Model,
    answer: &mut message::Model,
) -> Result<(), CommandError> {
    answer.is_hidden = false;
    answer.status = MessageStatus::Streaming;
    answer.model_id = run.model_id;
    answer.created_at = c.now();
    answer.updated_at = c.now();
    answer.seq = c.append(
        run.conversation_id.0,
        Some((run.id, run.attempt)),
        Body::MessageCreated(MessageFacts::of(answer)).draft(),
    );
    answer.parts_seq = answer.seq;
    message::Entity::change_anywhere(SYSTEM)
        .filter(message::Column::Id.eq(answer.id))
        .set(message::ActiveModel {
            is_hidden: Set(false),
            model_id: Set(answer.model_id),
            seq: Set(answer.seq),
            parts_seq: Set(answer.parts_seq),
            created_at: Set(answer.created_at),
            updated_at: Set(answer.updated_at),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    Ok(())
}

/// What a run is carried out with: its agent's version, taken at its first start and kept, and a model.
async fn equip(
    c: &Command,
    run: &mut run::Model,
) -> Result<Result<(AgentSpec, llm_model::Model, String), RunError>, CommandError> {
    let no_model = |message: &str| RunError {
        kind: RunErrorKind::NoModel,
        message: message.into(),
        detail: None,
        retryable: false,
    };
    let (spec, agents_model) = if let Some(draft) = &run.draft {
        (draft.spec.clone(), draft.model_id)
    } else {
        let version = match (run.agent_version_id, run.agent_id) {
            (Some(version), _) => Some(version),
            (None, Some(agent)) => agent::Entity::anywhere(SYSTEM)
                .filter(agent::Column::Id.eq(agent))
                .one(&**c.tx())
                .await?
                .map(|agent| agent.version_id),
            (None, None) => None,
        };
        let version = match version {
            Some(id) => {
                agent_version::Entity::anywhere(SYSTEM)
                    .filter(agent_version::Column::Id.eq(id))
                    .one(&**c.tx())
                    .await?
            }
            None => None,
        };
        let Some(version) = version else {
            return Ok(Err(no_model("the agent has no version to run")));
        };
        run.agent_version_id = Some(version.id);
        (version.spec, version.model_id)
    };
    let tenant = tenant::Entity::anywhere(SYSTEM)
        .filter(tenant::Column::Id.eq(run.tenant_id))
        .one(&**c.tx())
        .await?;
    let tenant =
        tenant.ok_or_else(|| CommandError::Internal(format!("{} has no tenant", run.id)))?;
    let wanted: Vec<ModelId> = match run.model_id {
        Some(model) => vec![model],
        None => [run.asked_model_id, agents_model, tenant.default_model_id]
            .into_iter()
            .flatten()
            .collect(),
    };
    let rows = llm_model::Entity::anywhere(SYSTEM)
        .filter(llm_model::Column::TenantId.eq(run.tenant_id))
        .filter(llm_model::Column::Kind.eq(ModelKind::Chat))
        .filter(
            Condition::any()
                .add(llm_model::Column::Id.is_in(wanted.iter().copied()))
                .add(
                    Condition::all()
                        .add(llm_model::Column::Provider.eq(ModelProvider::Builtin))
                        .add(llm_model::Column::DeletedAt.is_null()),
                ),
        )
        .order_by_asc(llm_model::Column::CreatedAt)
        .all(&**c.tx())
        .await?;
    // A model that was named is taken or none; one that was deleted since a run began stays with that run.
    let named = wanted.first().and_then(|&id| {
        rows.iter()
            .find(|row| row.id == id && (row.deleted_at.is_none() || run.model_id == Some(id)))
    });
    let later = || {
        wanted.iter().skip(1).find_map(|&id| {
            rows.iter()
                .find(|row| row.id == id && row.deleted_at.is_none())
        })
    };
    let builtin = || {
        rows.iter()
            .find(|row| row.provider == ModelProvider::Builtin && row.deleted_at.is_none())
    };
    let model = named.or_else(later).or_else(builtin).cloned();
    let Some(model) = model else {
        return Ok(Err(no_model("there is no model that could be called")));
    };
    run.model_id = Some(model.id);
    run.primary_model_id = run.primary_model_id.or(run.model_id);
    Ok(Ok((spec, model, tenant.currency)))
}
