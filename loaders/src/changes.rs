//! The log of a tenant's changes.

use crate::{LoadError, Reader};

impl Reader {
    /// The number that the changes of the asker's tenant stand at, in the view that the rest is read from. 0 without a credential.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn head_of_changes(&self) -> Result<i64, LoadError> {
        self.run(|source| async move {
            let Some(scope) = source.scope() else {
                return Ok(0);
            };
            let stream = scope.tenant().0;
            let heads = events::read::heads(&**source.tx().await?, &[stream]).await?;
            // Before anything changed there is no stream.
            Ok(heads.get(&stream).copied().unwrap_or(0))
        })
        .await
    }
}
