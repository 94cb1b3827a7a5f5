//! What readers think of answers.

use entities::{
    CommandError, MessageId, MessageRole, Rating, Refusal, Scope, input, message, query::*,
};

use crate::{
    Engine,
    conversations::{self, may},
    event::{Body, MessageFacts},
};

/// What a reader thinks of an answer, all of it: what is left out here is taken back.
#[derive(Debug, Clone)]
pub struct RateMessage {
    /// The answer.
    pub message: MessageId,
    /// `None` takes it back, with what was said of it.
    pub rating: Option<Rating>,
    /// In the reader's words.
    pub comment: Option<String>,
}

/// Characters of what is said of an answer.
const COMMENT: usize = 10_000;

impl Engine {
    /// Rates an answer, finished or not.
    ///
    /// # Errors
    /// FORBIDDEN without the right to use conversations; refusals where there is no such message, where it is no answer, and for
    /// a comment that is too long or without a rating.
    pub async fn rate_message(
        &self,
        scope: &Scope,
        input: RateMessage,
    ) -> Result<MessageId, CommandError> {
        may(scope)?;
        if let Some(comment) = &input.comment {
            const PATH: &[&str] = &["input", "comment"];
            input::text(PATH, comment, COMMENT)?;
            if input.rating.is_none() {
                return Err(Refusal::invalid(PATH, "a comment needs a rating").into());
            }
        }
        let scope = scope.clone();
        self.command(scope.tenant(), move |c| {
            Box::pin(async move {
                const PATH: &[&str] = &["input", "id"];
                let (_, mut row) =
                    conversations::locked_by_message(c, &scope, input.message, &["input", "id"])
                        .await?
                        .ok_or_else(|| Refusal::not_found(PATH, input.message))?;
                if row.role != MessageRole::Assistant {
                    return Err(Refusal::invalid(PATH, "only answers can be rated").into());
                }
                row.rating = input.rating;
                row.rating_comment = input.comment;
                row.updated_at = c.now();
                message::Entity::change_in(&scope)
                    .filter(message::Column::Id.eq(row.id))
                    .set(message::ActiveModel {
                        rating: Set(row.rating),
                        rating_comment: Set(row.rating_comment.clone()),
                        updated_at: Set(row.updated_at),
                        ..Default::default()
                    })
                    .exec(&**c.tx())
                    .await?;
                let facts = MessageFacts::whole(c.tx(), &row).await?;
                c.append(
                    row.conversation_id.0,
                    None,
                    Body::MessageUpdated(facts).draft(),
                );
                Ok(row.id)
            })
        })
        .await
    }
}
