//! Carrying out the tool calls that a step asked for.

use adapters::spans;
use entities::{ToolCallStatus, query::*, tool_call};

use super::{Hand, Stop, finish::checkpoint};
use crate::{
    event::{Body, ToolCallFacts},
    reasons::refusal,
    start::SYSTEM,
};

impl Hand {
    /// Carries out the calls that the last step asked for; `false`: there are none. There are no tools yet, so that the answer to
    /// each is an error for the model to mend, and the step after it is a step like any other.
    pub(super) async fn tools(&mut self) -> Result<bool, Stop> {
        if self.run().steps == 0 {
            return Ok(false);
        }
        let id = self.run().id;
        let last = self.run().steps - 1;
        let open = self
            .patiently(|| async {
                let snapshot = self.snapshot();
                tool_call::Entity::anywhere(SYSTEM)
                    .filter(tool_call::Column::RunId.eq(id))
                    .filter(tool_call::Column::Step.eq(last))
                    .filter(tool_call::Column::Status.eq(ToolCallStatus::Pending))
                    .order_by_asc(tool_call::Column::Position)
                    .all(&**snapshot.tx().await?)
                    .await
            })
            .await?;
        if open.is_empty() {
            return Ok(false);
        }
        let parts = self.started.answer.parts.clone();
        let step = self.span_of(last);
        let seen: Vec<_> =
            step.in_scope(|| open.iter().map(|call| spans::tool_call(call.id)).collect());
        let run = self
            .command(move |c, mut run| {
                Box::pin(async move {
                    let (stream, by) = (run.conversation_id.0, Some((run.id, run.attempt)));
                    for mut call in open {
                        call.status = ToolCallStatus::Failed;
                        call.error_message = Some(refusal(&call));
                        call.started_at = Some(c.now());
                        call.finished_at = Some(c.now());
                        tool_call::Entity::change_anywhere(SYSTEM)
                            .filter(tool_call::Column::Id.eq(call.id))
                            .set(tool_call::ActiveModel {
                                status: Set(call.status),
                                error_message: Set(call.error_message.clone()),
                                started_at: Set(call.started_at),
                                finished_at: Set(call.finished_at),
                                ..Default::default()
                            })
                            .exec(&**c.tx())
                            .await?;
                        c.append(
                            stream,
                            by,
                            Body::ToolCallFinished(ToolCallFacts::of(&call)).draft(),
                        );
                    }
                    c.append(stream, by, Body::StepStarted { step: run.steps }.draft());
                    checkpoint(c, &mut run, parts).await?;
                    Ok(run)
                })
            })
            .await?;
        for span in seen {
            spans::outcome(&span, "refused", true);
        }
        self.started.run = run;
        Ok(true)
    }
}
