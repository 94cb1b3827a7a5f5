//! Those who follow conversations and runs. What several follow by the same document is made once for all of them.
//!
//! Each who follows stands at his own place of the log and finds what comes next himself: whoever joins, leaves or falls behind, he
//! gets each event once, in order. Only the making of an event is shared: a [`Topic`] is what several ask in the same words, of
//! the same stream, and may be told in the same words. Whoever needs an event first makes it; the others take what he made, as long
//! as it is kept. He does not make it with his own rights, but with those that all of them have.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use adapters::tasks::Tasks;
use async_graphql::{
    Mode, Request, Response, Tally, Variables, parser::types::ExecutableDocument, to_json,
};
use auth::{Identity, RequestContext};
use bytes::Bytes;
use engine::{
    event::Event,
    follow::{Coming, Events, EventsError},
};
use entities::{Db, Permission, Scope};
use events::Record;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use loaders::{Reader, quiesce::quiesce};
use resolvers::{
    Asking,
    conversation::{Fed, Handover},
};
use schema::{Audience, Audiences, Served, cost::Cost};
use tokio::{
    sync::{Notify, OnceCell, Semaphore, mpsc},
    time::Instant,
};
use uuid::Uuid;

use super::{
    bill::Room,
    crowd::Crowd,
    follower::{At, Follower},
};
use crate::edge::{Code, Operation, Refused};

/// The most events of a topic that are kept: as many as the log itself has in memory.
const KEPT: usize = 1024;
/// The most bytes of them …
const KEPT_BYTES: usize = 1024 * 1024;
/// … and where all topics together keep more than `MUCH`.
const KEPT_BYTES_OF_MUCH: usize = 32 * 1024;
const MUCH: usize = 64 * 1024 * 1024;
/// How long they are kept: whoever is further behind makes them himself.
const KEPT_FOR: Duration = Duration::from_secs(2);
/// How often that is looked at, and how much is told.
const LOOK: Duration = Duration::from_millis(250);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those who follow in this process. Clones are the same.
#[derive(Clone)]
pub(super) struct Followers(Arc<Inner>);

pub(super) struct Inner {
    served: Served,
    db: Db,
    audiences: Audiences,
    topics: Mutex<HashMap<Key, Weak<Topic>>>,
    /// There is a topic again.
    woken: Notify,
    /// Bytes that all topics keep.
    kept: AtomicUsize,
    pub(super) crowd: Crowd,
}

/// What makes two who follow the same. The words to the letter: an error names lines and columns of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    text: Arc<str>,
    operation: Option<String>,
    /// As JSON, without the one that says where to begin.
    variables: String,
    stream: Uuid,
    run: Option<Uuid>,
    /// As whom it is read.
    scope: Scope,
}

/// What is asked, before it is known to be good.
pub(super) struct Asked {
    text: String,
    operation: Option<String>,
    after: Option<String>,
    words: Words,
    wants_cursors: bool,
}

/// What it takes to make events of a document.
struct Words {
    document: Arc<ExecutableDocument>,
    may_be_raw: bool,
    /// Of whoever came first, with his place: good ones, which is all that matters of it.
    variables: Variables,
    audience: Audience,
    cost: Cost,
    room: Room,
}

impl Words {
    /// As whom they are made for a viewer.
    fn scope(&self, viewer: &Scope, events: &Events) -> Scope {
        match self.audience {
            _ if self.are_own(viewer, events) => viewer.clone(),
            Audience::Anybody => events.anybody(viewer, &[]),
            Audience::Managers => events.anybody(viewer, &[Permission::ModelsManage]),
            Audience::Viewer => viewer.clone(),
        }
    }

    /// Whether they are made for one credential alone. Whom a conversation is shared with may see less of what is in it than its
    /// owner: of the agent, say.
    fn are_own(&self, viewer: &Scope, events: &Events) -> bool {
        self.audience == Audience::Viewer || !events.is_of(viewer.user())
    }
}

/// Who somebody is from now on who follows already: what he may do has changed. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Renewed(Arc<Mutex<Option<Identity>>>);

impl Renewed {
    pub(super) fn set(&self, identity: &Identity) {
        *lock(&self.0) = Some(identity.clone());
    }

    pub(super) fn taken(&self) -> Option<Identity> {
        lock(&self.0).take()
    }
}

impl Followers {
    pub(super) fn new(served: Served, db: Db) -> Self {
        Self(Arc::new(Inner {
            served,
            db,
            audiences: Audiences::new(),
            topics: Mutex::default(),
            woken: Notify::new(),
            kept: AtomicUsize::new(0),
            crowd: Crowd::default(),
        }))
    }

    /// Starts the task that looks after what is kept.
    pub(super) fn keep(&self, tasks: &Tasks) {
        let (followers, closing) = (self.clone(), tasks.closing());
        drop(tasks.spawn("those who follow", async move {
            closing.run_until_cancelled(followers.look_after()).await;
        }));
    }

    async fn look_after(&self) {
        loop {
            let begun = Instant::now();
            tokio::time::sleep(LOOK).await;
            self.0.crowd.look(begun.elapsed());
            let topics: Vec<_> = {
                let topics = lock(&self.0.topics);
                topics.values().filter_map(Weak::upgrade).collect()
            };
            if topics.is_empty() {
                self.0.woken.notified().await;
            }
            for topic in topics {
                topic.forget_old();
            }
        }
    }

    /// What to remember of an operation whose events others may be told, too; `None`: it is one's own.
    pub(super) fn asked(&self, operation: &Operation, cost: &Cost, room: &Room) -> Option<Asked> {
        let request = &operation.request;
        let name = request.operation_name.as_deref();
        let shared = self.0.audiences.shared(&operation.document, name)?;
        Some(Asked {
            text: request.query.clone(),
            operation: request.operation_name.clone(),
            after: shared.after,
            words: Words {
                document: operation.document.clone(),
                may_be_raw: operation.may_be_raw,
                variables: request.variables.clone(),
                audience: shared.audience,
                cost: *cost,
                room: room.clone(),
            },
            wants_cursors: operation.wants_cursors,
        })
    }

    /// Follows for whoever asks by `identity`: `request`, which has all its data, is looked at as ever, and what it finds is told.
    pub(super) fn follow(
        &self,
        asked: Asked,
        request: Request,
        reader: Reader,
        identity: Option<Identity>,
        renewed: Renewed,
    ) -> BoxStream<'static, At> {
        let followers = self.clone();
        let begin = async move {
            let handover = Handover::default();
            let mut answers = followers
                .0
                .served
                .execute_stream(request.data(handover.clone()), asked.words.document.clone());
            let refused = quiesce(reader.gate(), answers.next()).await;
            drop(answers);
            match (refused, handover.taken(), identity) {
                (None, Some(events), Some(identity)) => {
                    let wants_cursors = asked.wants_cursors;
                    let topic = followers.topic(asked, identity, &events);
                    Follower::new(topic, events, renewed, wants_cursors)
                        .told()
                        .boxed()
                }
                (refused, ..) => {
                    stream::iter(refused.map(|refused| (Made::of(refused), None))).boxed()
                }
            }
        };
        // What it takes to begin is not kept while one follows.
        stream::once(Box::pin(begin)).flatten().boxed()
    }

    fn topic(&self, asked: Asked, identity: Identity, events: &Events) -> Arc<Topic> {
        let mut variables = asked.words.variables.clone();
        if let Some(after) = &asked.after {
            variables.remove(after.as_str());
        }
        let key = Key {
            text: asked.text.into(),
            operation: asked.operation,
            variables: serde_json::to_string(&variables).unwrap_or_default(),
            stream: events.conversation().0,
            run: events.run().map(|run| run.0),
            scope: asked.words.scope(identity.scope(), events),
        };
        let is_own = asked.words.are_own(identity.scope(), events);
        let identity = is_own.then_some(identity);
        self.0.topic(key, &Arc::new(asked.words), identity)
    }
}

impl Inner {
    /// The topic of this key, made where nobody follows it yet.
    fn topic(
        self: &Arc<Self>,
        key: Key,
        words: &Arc<Words>,
        identity: Option<Identity>,
    ) -> Arc<Topic> {
        let mut topics = lock(&self.topics);
        if let Some(topic) = topics.get(&key).and_then(Weak::upgrade) {
            return topic;
        }
        let topic = Arc::new(Topic {
            followers: self.clone(),
            words: words.clone(),
            identity,
            turn: Semaphore::new(1),
            maker: Mutex::default(),
            kept: Mutex::default(),
            key: key.clone(),
        });
        topics.insert(key, Arc::downgrade(&topic));
        self.woken.notify_one();
        topic
    }
}

/// What several follow in the same words.
pub(super) struct Topic {
    followers: Arc<Inner>,
    key: Key,
    words: Arc<Words>,
    /// Where it is told to one credential only.
    identity: Option<Identity>,
    /// Whoever makes an event has it.
    turn: Semaphore,
    /// Away while an event is made: who gives up in the middle takes it along.
    maker: Mutex<Option<Maker>>,
    kept: Mutex<Kept>,
}

/// What was made of late, by the first and the last number.
#[derive(Default)]
struct Kept {
    pieces: BTreeMap<(i64, i64), KeptPiece>,
    bytes: usize,
}

struct KeptPiece {
    /// The log's own record, to be sure that the numbers mean the same.
    first: Arc<Record>,
    piece: Piece,
    since: Instant,
    bytes: usize,
}

/// One event, or several that are told as one.
#[derive(Clone)]
pub(super) struct Piece {
    pub(super) record: Arc<Record>,
    /// How many records of the log it is.
    pub(super) records: usize,
    made: Arc<OnceCell<Made>>,
    is_kept: bool,
}

impl Piece {
    fn new(record: Arc<Record>, records: usize, is_kept: bool) -> Self {
        Self {
            record,
            records,
            made: Arc::default(),
            is_kept,
        }
    }
}

/// An event as it is told.
#[derive(Debug, Clone)]
pub(super) enum Made {
    /// `{"data": …}`, and what it weighs. Nothing went wrong.
    Well(Bytes, u64),
    /// With errors, which get the id of each request that they are told to.
    Badly(Arc<Response>),
}

impl Made {
    pub(super) fn of(response: Response) -> Self {
        Self::Badly(Arc::new(response))
    }
}

impl Topic {
    pub(super) fn crowd(&self) -> &Crowd {
        &self.followers.crowd
    }

    /// The topic of the same words for whoever may do something else by now.
    pub(super) fn for_viewer(self: &Arc<Self>, identity: Identity, events: &Events) -> Arc<Self> {
        let scope = self.words.scope(identity.scope(), events);
        if scope == self.key.scope {
            return self.clone();
        }
        let key = Key {
            scope,
            ..self.key.clone()
        };
        let is_own = self.words.are_own(identity.scope(), events);
        let identity = is_own.then_some(identity);
        self.followers.topic(key, &self.words, identity)
    }

    /// Finds what is coming among what others were told, or begins it. `join`: with what goes on with its text.
    pub(super) fn piece(self: &Arc<Self>, coming: &Coming, events: &Events, join: bool) -> Piece {
        let alone = || (coming.record.clone(), 1);
        let joined = || events.joined().unwrap_or_else(alone);
        // whoever follows alone leaves nothing behind
        if Arc::strong_count(self) == 1 {
            let (record, records) = if join { joined() } else { alone() };
            return Piece::new(record, records, false);
        }
        let mut kept = lock(&self.kept);
        let seq = coming.record.seq;
        let same = |kept: &&KeptPiece| Arc::ptr_eq(&kept.first, &coming.record);
        let found = if join {
            let longest = kept.pieces.range((seq, seq)..=(seq, i64::MAX)).next_back();
            longest
                .map(|(_, kept)| kept)
                .filter(|kept| kept.piece.records > 1 || coming.waiting == 1)
        } else {
            kept.pieces.get(&(seq, seq))
        };
        if let Some(found) = found.filter(same) {
            return found.piece.clone();
        }
        let (record, records) = if join { joined() } else { alone() };
        let key = (seq, record.seq);
        if let Some(found) = kept.pieces.get(&key).filter(same) {
            return found.piece.clone();
        }
        let piece = Piece::new(record, records, true);
        let fresh = KeptPiece {
            first: coming.record.clone(),
            piece: piece.clone(),
            since: Instant::now(),
            bytes: 0,
        };
        if let Some(before) = kept.pieces.insert(key, fresh) {
            self.gone(&mut kept, before.bytes);
        }
        while kept.pieces.len() > KEPT {
            self.forget_first(&mut kept);
        }
        piece
    }

    /// Makes a piece, unless somebody has; once, however many ask.
    pub(super) async fn made(&self, first: i64, piece: &Piece) -> Made {
        let making = async {
            let made = self
                .make(Event::read(&piece.record).map_err(EventsError::from))
                .await;
            if piece.is_kept
                && let Made::Well(json, _) = &made
            {
                self.weigh((first, piece.record.seq), json.len());
            }
            made
        };
        piece.made.get_or_init(|| making).await.clone()
    }

    /// Makes an event, or the end that an error is.
    pub(super) async fn make(&self, event: Result<Event, EventsError>) -> Made {
        // never closed
        let _turn = self.turn.acquire().await;
        let maker = lock(&self.maker).take();
        let mut maker = maker.unwrap_or_else(|| self.maker());
        let made = maker.make(event).await;
        *lock(&self.maker) = Some(maker);
        made
    }

    /// Leaves a maker for the others, where they have none.
    pub(super) fn leave(&self, maker: Maker) {
        let mut left = lock(&self.maker);
        if left.is_none() && self.turn.available_permits() > 0 {
            *left = Some(maker);
        }
    }

    /// What makes events of this topic, in the words and with the rights of all who follow it.
    pub(super) fn maker(&self) -> Maker {
        let (feed, fed) = mpsc::channel(1);
        let fed = stream::unfold(fed, |mut fed| async move {
            let event = fed.recv().await?;
            Some((event, fed))
        });
        let reader = Reader::following(&self.followers.db, Some(self.key.scope.clone()));
        let tally = self.words.cost.tally(self.words.room.max_bytes());
        let mode = if self.words.may_be_raw {
            Mode::Raw
        } else {
            Mode::Tree
        };
        // How those who follow are connected is no matter of events.
        let nowhere = RequestContext {
            listener_loopback: false,
            peer_loopback: false,
            forwarded: false,
            origin_ours_or_absent: false,
            public_url_or_proxies_set: false,
            address: None,
            user_agent: None,
        };
        let mut request = Request::new(&*self.key.text)
            .variables(self.words.variables.clone())
            .data(mode)
            .data(reader.clone())
            .data(tally.clone())
            .data(Asking::new(self.identity.clone(), nowhere, false))
            .data(Fed::new(fed.boxed()));
        request.operation_name.clone_from(&self.key.operation);
        let answers = self
            .followers
            .served
            .execute_stream(request, self.words.document.clone());
        Maker {
            feed,
            answers,
            reader,
            tally,
            room: self.words.room.clone(),
        }
    }

    fn weigh(&self, key: (i64, i64), bytes: usize) {
        let mut kept = lock(&self.kept);
        let Some(piece) = kept.pieces.get_mut(&key) else {
            return;
        };
        piece.bytes += bytes;
        kept.bytes += bytes;
        let all = self.followers.kept.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let most = if all > MUCH {
            KEPT_BYTES_OF_MUCH
        } else {
            KEPT_BYTES
        };
        while kept.bytes > most {
            self.forget_first(&mut kept);
        }
    }

    fn forget_first(&self, kept: &mut Kept) {
        let first = kept.pieces.pop_first();
        self.gone(kept, first.map_or(0, |(_, piece)| piece.bytes));
    }

    fn gone(&self, kept: &mut Kept, bytes: usize) {
        kept.bytes -= bytes;
        self.followers.kept.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn forget_old(&self) {
        let mut kept = lock(&self.kept);
        let mut bytes = 0;
        kept.pieces.retain(|_, piece| {
            let is_new = piece.since.elapsed() < KEPT_FOR;
            if !is_new {
                bytes += piece.bytes;
            }
            is_new
        });
        self.gone(&mut kept, bytes);
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut *lock(&self.kept)).bytes;
        self.followers.kept.fetch_sub(bytes, Ordering::Relaxed);
        let mut topics = lock(&self.followers.topics);
        // another one may have its place by now
        if topics
            .get(&self.key)
            .is_some_and(|topic| topic.strong_count() == 0)
        {
            topics.remove(&self.key);
        }
    }
}

/// Makes events one by one: a subscription that is given them.
pub(super) struct Maker {
    feed: mpsc::Sender<Result<Event, EventsError>>,
    answers: BoxStream<'static, Response>,
    reader: Reader,
    tally: Arc<Tally>,
    room: Room,
}

impl Maker {
    /// Makes one. Whoever drops the future drops the maker.
    pub(super) async fn make(&mut self, event: Result<Event, EventsError>) -> Made {
        let (seq, before) = (event.as_ref().ok().map(|event| event.seq), self.tally.sum());
        tracing::trace!(seq, "an event is made");
        let answer = match self.feed.try_send(event) {
            Ok(()) => quiesce(self.reader.gate(), self.answers.next()).await,
            Err(_) => None,
        };
        let answer = answer.map(|mut answer| {
            self.room.hold(&mut answer, &self.tally);
            answer
        });
        // The next event may be long in coming, and is of another moment.
        self.reader.renew();
        match answer {
            Some(answer) if answer.errors.is_empty() => Made::Well(
                to_json(&answer).into(),
                self.tally.sum().saturating_sub(before),
            ),
            Some(answer) => Made::of(answer),
            None => {
                tracing::error!("a subscription did not answer");
                let error = Refused::new(Code::Internal, "internal error").into_error();
                Made::of(Response::from_errors(vec![error]))
            }
        }
    }
}
