//! What was used, from the hours it was rolled up into.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use entities::{
    Scope,
    usage::{Summed, summed},
};
use uuid::Uuid;

use crate::{Found, Relation, Source};

/// What a tenant, an agent or a conversation of the scope's tenant used in the hours that begin within two times. Whoever asks is
/// known to be allowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UsageOf {
    /// Its UUID.
    pub subject: Uuid,
    /// From then on; left out: from the beginning.
    pub since: Option<DateTime<Utc>>,
    /// Before then; left out: until now.
    pub until: Option<DateTime<Utc>>,
}

impl Relation for UsageOf {
    type Value = Arc<Summed>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        // The fields of a document ask for one span of time, or a few.
        let mut spans: HashMap<_, Vec<Uuid>> = HashMap::new();
        for key in &keys {
            let span = (key.since, key.until);
            spans.entry(span).or_default().push(key.subject);
        }
        let mut found = HashMap::new();
        for ((since, until), subjects) in spans {
            let sums = summed(scope, &**source.tx().await?, &subjects, since, until).await?;
            found.extend(sums.into_iter().map(|(subject, sums)| {
                let key = Self {
                    subject,
                    since,
                    until,
                };
                (key, Arc::new(sums))
            }));
        }
        Ok(found)
    }
}
