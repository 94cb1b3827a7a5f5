//! What changed in a tenant, as one stream: its id is the tenant's. Commands only note what they changed, in a table that
//! nobody waits for ([`Command::changed`](crate::Command::changed)); a [sequencer](sequencer) moves the notes into the stream.

pub(crate) mod expire;
pub(crate) mod sequencer;

use chrono::{DateTime, Utc};
use entities::{
    Audience, Backend, ChangeAction, Db, DbErr, ResourceKind, Scope, SystemScope, TenantId, UserId,
    Within,
};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    read,
    record::{Kind, Payload, Record},
};

/// A number that is in databases: never given another meaning.
const CHANGE: Kind = Kind(64);

const SYSTEM: SystemScope = SystemScope::of("the streams of tenants' changes");

/// That a resource changed, once or several times: what one record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    /// The name of a [`ResourceKind`], which a later version may have more of.
    kind: String,
    id: Uuid,
    /// Who saw it before all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Audience>,
    /// Who else could see it in between, and may have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    between: Vec<Audience>,
    /// Who sees it after all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<Audience>,
}

impl Span {
    fn new(kind: String, id: Uuid, before: Option<Audience>, after: Option<Audience>) -> Self {
        Self {
            kind,
            id,
            before,
            between: Vec::new(),
            after,
        }
    }

    /// And then it changed again. Whoever may have seen it meanwhile is remembered: he has to be told if he no longer does.
    fn then(&mut self, before: Option<Audience>, after: Option<Audience>) {
        for seen in [self.after.take(), before].into_iter().flatten() {
            if !self.between.contains(&seen) {
                self.between.push(seen);
            }
        }
        self.after = after;
    }

    fn payload(mut self) -> Payload {
        let (before, after) = (&self.before, &self.after);
        self.between
            .retain(|seen| Some(seen) != before.as_ref() && Some(seen) != after.as_ref());
        let bytes = serde_json::to_vec(&self).expect("names and ids are plain data");
        Payload::Whole(bytes.into())
    }
}

/// A change of a resource, as the stream of its tenant tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number in the tenant's stream.
    pub seq: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Where.
    pub tenant: TenantId,
    /// What changed.
    pub kind: ResourceKind,
    /// Which one.
    pub id: Uuid,
    span: Span,
}

impl Change {
    /// From a record of a tenant's stream. `None`: of something that this version does not know, and so can't tell anybody of.
    ///
    /// # Errors
    /// It is no change, or is damaged.
    pub fn read(record: &Record) -> Result<Option<Self>, DbErr> {
        let Payload::Whole(bytes) = &record.payload else {
            return Err(DbErr::Type("a change holds a piece of text".into()));
        };
        if record.kind != CHANGE {
            return Err(DbErr::Type(format!(
                "a change of the unknown kind {}",
                record.kind.0
            )));
        }
        let span: Span = serde_json::from_slice(bytes)
            .map_err(|error| DbErr::Json(format!("a change: {error}")))?;
        let kind = serde_json::from_value(serde_json::Value::String(span.kind.clone()));
        Ok(kind.ok().map(|kind| Self {
            seq: record.seq,
            at: record.at,
            tenant: record.tenant,
            kind,
            id: span.id,
            span,
        }))
    }

    /// Whether it says that this user is somebody else in the tenant than before: by his membership, or by a group that he is in.
    #[must_use]
    pub fn is_of_standing(&self, user: UserId) -> bool {
        let of_him = |audience: &Audience| audience.is_owned_by(user);
        let span = &self.span;
        self.kind == ResourceKind::Membership && (span.before.iter().chain(&span.after)).any(of_him)
    }

    /// What it was for whoever asks by `scope`, in the tenant; `None`: nothing that he could see. What comes into his sight is
    /// CREATED, what goes out of it DELETED.
    #[must_use]
    pub fn action_for(&self, scope: &Scope) -> Option<ChangeAction> {
        if scope.tenant() != self.tenant {
            return None;
        }
        let covers = |audience: &Audience| audience.covers(self.kind, scope);
        let span = &self.span;
        let sees = span.after.as_ref().is_some_and(covers);
        let saw = span.before.as_ref().is_some_and(covers);
        match (saw, sees) {
            (true, true) => Some(ChangeAction::Updated),
            (false, true) => Some(ChangeAction::Created),
            (true, false) => Some(ChangeAction::Deleted),
            (false, false) => span
                .between
                .iter()
                .any(covers)
                .then_some(ChangeAction::Deleted),
        }
    }
}

/// The head of a tenant's stream of changes, which is made where there is none yet.
pub(crate) async fn head(db: &Db, tenant: TenantId) -> Result<i64, DbErr> {
    let head = async || {
        let heads = read::heads(db.reader(SYSTEM), &[tenant.0]).await?;
        Ok::<_, DbErr>(heads.get(&tenant.0).copied())
    };
    if let Some(head) = head().await? {
        return Ok(head);
    }
    let tx = db.begin(Within::Tenant(tenant)).await?;
    let (backend, sql) = match db.backend() {
        Backend::Postgres => (
            DbBackend::Postgres,
            "insert into streams (id, tenant_id) values ($1, $1) on conflict do nothing",
        ),
        Backend::Sqlite => (
            DbBackend::Sqlite,
            "insert into streams (id, tenant_id) values (?1, ?1) on conflict do nothing",
        ),
    };
    let sql = Statement::from_sql_and_values(backend, sql, [tenant.into()]);
    tx.execute_raw(sql).await?;
    tx.commit().await?;
    Ok(head().await?.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use entities::{Permissions, Principal, Role, SessionId, UserId, Visibility};

    use super::*;
    use crate::record::VERSION;

    fn user(number: u128) -> UserId {
        UserId(Uuid::from_u128(number))
    }

    fn scope(number: u128, role: Role) -> Scope {
        let session = Principal::Session(SessionId(Uuid::nil()));
        let tenant = TenantId(Uuid::nil());
        Scope::new(tenant, user(number), role, Permissions::of(role), session)
    }

    fn record(payload: Payload) -> Record {
        Record {
            tenant: TenantId(Uuid::nil()),
            stream: Uuid::nil(),
            seq: 9,
            run: None,
            attempt: 0,
            n: 0,
            v: VERSION,
            at: DateTime::UNIX_EPOCH,
            kind: CHANGE,
            payload,
        }
    }

    /// What owner, administrator and member are told of an agent that was seen so, one after the other.
    fn told(seen: &[Option<Audience>]) -> [Option<ChangeAction>; 3] {
        let mut span = Span::new(
            "AGENT".into(),
            Uuid::from_u128(5),
            seen[0].clone(),
            seen[1].clone(),
        );
        for pair in seen[1..].windows(2) {
            span.then(pair[0].clone(), pair[1].clone());
        }
        let change = Change::read(&record(span.payload())).unwrap().unwrap();
        [(1, Role::Editor), (2, Role::Admin), (3, Role::Member)]
            .map(|(number, role)| change.action_for(&scope(number, role)))
    }

    #[test]
    fn each_is_told_what_it_was_for_him() {
        use ChangeAction::{Created, Deleted, Updated};
        let private = || Some(Audience::owner(user(1)));
        let shared = || Some(Audience::new(user(1), Visibility::Tenant));
        let c = (Some(Created), Some(Updated), Some(Deleted));
        for (seen, expected) in [
            (vec![None, private()], [c.0, c.0, None]),
            (vec![private(), private()], [c.1, c.1, None]),
            (vec![private(), shared()], [c.1, c.1, c.0]),
            (vec![shared(), private()], [c.1, c.1, c.2]),
            (vec![shared(), None], [c.2; 3]),
            (vec![None, private(), private()], [c.0, c.0, None]),
            (vec![None, private(), shared()], [c.0; 3]),
            // He may have listed it in between.
            (vec![private(), shared(), private()], [c.1, c.1, c.2]),
            (vec![None, shared(), None], [c.2; 3]),
            (vec![shared(), private(), shared()], [c.1; 3]),
        ] {
            assert_eq!(told(&seen), expected, "{seen:?}");
        }
    }

    #[test]
    fn nobody_elsewhere_is_told_anything() {
        let seen = Some(Audience::new(user(1), Visibility::Tenant));
        let span = Span::new("AGENT".into(), Uuid::from_u128(5), seen.clone(), seen);
        let mut change = Change::read(&record(span.payload())).unwrap().unwrap();
        change.tenant = TenantId(Uuid::from_u128(1));
        assert_eq!(change.action_for(&scope(1, Role::Owner)), None);
    }

    /// As it stands in databases.
    #[test]
    fn what_was_written_is_read() {
        let golden = include_bytes!("golden/v1.jsonl");
        let mut read = Vec::new();
        for line in golden
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let payload = Payload::Whole(line.to_vec().into());
            read.push(Change::read(&record(payload)).unwrap());
        }
        let private = || Some(Audience::owner(user(1)));
        let shared = || Some(Audience::new(user(1), Visibility::Tenant));
        let mut created = Span::new("AGENT".into(), Uuid::from_u128(5), None, private());
        let mut widened = Span::new(
            "CONVERSATION".into(),
            Uuid::from_u128(6),
            private(),
            shared(),
        );
        widened.then(shared(), private());
        let kinds: Vec<_> = read
            .iter()
            .map(|change| change.as_ref().map(|it| it.kind))
            .collect();
        assert_eq!(
            kinds,
            [
                Some(ResourceKind::Agent),
                Some(ResourceKind::Conversation),
                None
            ],
            "the last is of a later version"
        );
        assert_eq!(read[0].as_ref().map(|it| &it.span), Some(&created));
        assert_eq!(
            read[1].as_ref().map(|it| it.span.between.clone()),
            Some(vec![shared().unwrap()])
        );
        // And is written so.
        created.between.clear();
        let lines: Vec<&[u8]> = golden.split(|&byte| byte == b'\n').collect();
        for (span, line) in [(created, lines[0]), (widened, lines[1])] {
            assert_eq!(span.payload().encode(), line);
        }
    }
}
