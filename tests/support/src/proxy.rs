//! A bad network: a TCP proxy to put between the server and its database or its provider.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

use crate::lock;

/// Bytes moved at once.
const PIECE: usize = 16 * 1024;

/// How the network is.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    /// Raised by a cut; a connection made under an earlier number ends.
    cuts: u64,
    paused: bool,
    drops_answers: bool,
    refuses: bool,
}

/// What the connections share.
struct Shared {
    target: SocketAddr,
    weather: watch::Sender<Weather>,
    /// Whose answer is to be lost, once.
    needle: Mutex<Option<Vec<u8>>>,
    connections: AtomicUsize,
    /// How many answers were swallowed.
    lost: watch::Sender<usize>,
}

/// A proxy that listens on a port of its own until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Holds the listener and every connection; they end with it.
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts one that forwards everything to the target.
    ///
    /// # Panics
    ///
    /// When there is no free port.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            target,
            weather: watch::Sender::default(),
            needle: Mutex::default(),
            connections: AtomicUsize::new(0),
            lost: watch::Sender::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, shared.clone()));
        Self {
            address,
            shared,
            _tasks: tasks,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks every connection that there is. New ones are taken.
    pub fn cut(&self) {
        self.shared.weather.send_modify(|weather| weather.cuts += 1);
    }

    /// Whether new connections are closed as soon as they are made.
    pub fn refuse(&self, refuses: bool) {
        self.shared
            .weather
            .send_modify(|weather| weather.refuses = refuses);
    }

    /// Whether answers are lost: what the client says goes through, and the connection breaks as soon as the server
    /// answers, nothing of the answer being seen.
    pub fn drop_answers(&self, drops_answers: bool) {
        self.shared
            .weather
            .send_modify(|weather| weather.drops_answers = drops_answers);
    }

    /// Loses the answer to the next thing that any client says in which these bytes are (`COMMIT`), once: the server
    /// has done it, and the client sees its connection break. Nothing else is disturbed.
    pub fn lose_answer_to(&self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref().to_vec();
        *lock(&self.shared.needle) = (!bytes.is_empty()).then_some(bytes);
    }

    /// How many answers were lost so far. An answer counts once the server is done with everything it was told.
    pub fn lost(&self) -> usize {
        *self.shared.lost.borrow()
    }

    /// Resolves once that many answers were lost.
    pub async fn until_lost(&self, answers: usize) {
        // The sender is ours, so waiting ends in no other way.
        let mut lost = self.shared.lost.subscribe();
        let _lost = lost.wait_for(|lost| *lost >= answers).await.is_ok();
    }

    /// Stops forwarding, in both directions; connections stay open, new ones are taken and wait.
    pub fn pause(&self) {
        self.shared
            .weather
            .send_modify(|weather| weather.paused = true);
    }

    /// Forwards again, what has gathered first.
    pub fn resume(&self) {
        self.shared
            .weather
            .send_modify(|weather| weather.paused = false);
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((client, _)) = listener.accept().await {
            shared.connections.fetch_add(1, Ordering::Relaxed);
            if !shared.weather.borrow().refuses {
                connections.spawn(connect(client, shared.clone()));
            }
        } else {
            tokio::task::yield_now().await;
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Carries one connection. Either side sees the other's end as its own.
async fn connect(client: TcpStream, shared: Arc<Shared>) {
    let mut weather = shared.weather.subscribe();
    let cuts = weather.borrow().cuts;
    let Ok(server) = TcpStream::connect(shared.target).await else {
        return;
    };
    if client
        .set_nodelay(true)
        .and_then(|()| server.set_nodelay(true))
        .is_err()
    {
        return;
    }
    let (mut client_reads, mut client_writes) = client.into_split();
    let (mut server_reads, mut server_writes) = server.into_split();
    let is_marked = AtomicBool::new(false);
    let both = async {
        tokio::try_join!(
            ask(&mut client_reads, &mut server_writes, &shared, &is_marked),
            reply(&mut server_reads, &mut client_writes, &shared, &is_marked)
        )
    };
    let ended = tokio::select! {
        ended = both => ended.err(),
        _ = weather.wait_for(|weather| weather.cuts != cuts) => None,
    };
    // Whatever ended it, both sockets close here.
    drop((client_reads, client_writes));
    if let Some(Ended::Lost) = ended {
        // The server gets an end after all that was said, and time to see to it: a socket closed with answers unread
        // would be reset, and what it had not read yet be gone.
        let _said = server_writes.shutdown().await;
        let _swallowed = tokio::io::copy(&mut server_reads, &mut tokio::io::sink()).await;
        shared.lost.send_modify(|lost| *lost += 1);
    }
}

/// Why a connection ended before either side said so.
enum Ended {
    Broken,
    /// An answer was to be lost, and came.
    Lost,
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

/// Client to server, until the client says no more.
async fn ask(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    shared: &Shared,
    is_marked: &AtomicBool,
) -> Result<(), Ended> {
    let mut weather = shared.weather.subscribe();
    let mut buffer = vec![0; PIECE];
    // The end of what went before, as the bytes looked for may come in two pieces.
    let mut recent: Vec<u8> = Vec::new();
    loop {
        let n = from.read(&mut buffer).await?;
        flowing(&mut weather).await?;
        if n == 0 {
            return Ok(to.shutdown().await?);
        }
        recent.extend(&buffer[..n]);
        let is_found = is_found(shared, &mut recent);
        to.write_all(&buffer[..n]).await?;
        // Not before it is with the server, so that the answer to something earlier is not taken for its answer.
        if is_found {
            is_marked.store(true, Ordering::SeqCst);
        }
    }
}

/// Whether what was looked for is in what was said last; then nobody looks for it any more. Keeps as much as may be
/// its beginning.
fn is_found(shared: &Shared, recent: &mut Vec<u8>) -> bool {
    let mut needle = lock(&shared.needle);
    let Some(bytes) = needle.as_deref() else {
        recent.clear();
        return false;
    };
    let is_found = recent.windows(bytes.len()).any(|window| window == bytes);
    if is_found {
        recent.clear();
        *needle = None;
    } else {
        recent.drain(..recent.len().saturating_sub(bytes.len() - 1));
    }
    is_found
}

/// Server to client, until the server says no more or its answer is to be lost.
async fn reply(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    shared: &Shared,
    is_marked: &AtomicBool,
) -> Result<(), Ended> {
    let mut weather = shared.weather.subscribe();
    let mut buffer = vec![0; PIECE];
    loop {
        let n = from.read(&mut buffer).await?;
        flowing(&mut weather).await?;
        if n == 0 {
            return Ok(to.shutdown().await?);
        }
        if weather.borrow().drops_answers || is_marked.load(Ordering::SeqCst) {
            return Err(Ended::Lost);
        }
        to.write_all(&buffer[..n]).await?;
    }
}

/// Waits while the network is paused.
async fn flowing(weather: &mut watch::Receiver<Weather>) -> io::Result<()> {
    let waited = weather.wait_for(|weather| !weather.paused).await;
    waited
        .map(drop)
        .map_err(|_| io::ErrorKind::BrokenPipe.into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wait::{PATIENCE, within};

    /// A server that says everything back.
    async fn echo() -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    let _end = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        (address, tasks)
    }

    async fn exchange(stream: &mut TcpStream, text: &str) -> io::Result<String> {
        stream.write_all(text.as_bytes()).await?;
        let mut answer = vec![0; text.len()];
        within(
            PATIENCE,
            "an answer or the end",
            stream.read_exact(&mut answer),
        )
        .await?;
        Ok(String::from_utf8(answer).unwrap())
    }

    #[tokio::test]
    async fn forwards_pauses_and_cuts() {
        let (target, _echo) = echo().await;
        let proxy = Proxy::start(target).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(exchange(&mut stream, "hello").await.unwrap(), "hello");

        proxy.pause();
        stream.write_all(b"later").await.unwrap();
        let mut answer = [0; 5];
        let early =
            tokio::time::timeout(Duration::from_millis(50), stream.read_exact(&mut answer)).await;
        assert!(early.is_err(), "nothing flows while paused");
        proxy.resume();
        within(
            PATIENCE,
            "what had gathered",
            stream.read_exact(&mut answer),
        )
        .await
        .unwrap();
        assert_eq!(&answer, b"later");

        proxy.cut();
        assert!(exchange(&mut stream, "gone").await.is_err());
        let mut again = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(exchange(&mut again, "back").await.unwrap(), "back");
        assert_eq!(proxy.connections(), 2);

        proxy.refuse(true);
        let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(exchange(&mut refused, "no").await.is_err());
    }

    #[tokio::test]
    async fn loses_one_answer() {
        let (target, _echo) = echo().await;
        let proxy = Proxy::start(target).await;
        let mut one = TcpStream::connect(proxy.address()).await.unwrap();
        let mut two = TcpStream::connect(proxy.address()).await.unwrap();
        proxy.lose_answer_to("COMMIT");
        assert_eq!(
            exchange(&mut one, "select 1; COM").await.unwrap(),
            "select 1; COM"
        );
        assert!(
            exchange(&mut one, "MIT").await.is_err(),
            "found across two pieces"
        );
        within(PATIENCE, "the loss", proxy.until_lost(1)).await;
        assert_eq!(exchange(&mut two, "COMMIT").await.unwrap(), "COMMIT");

        proxy.drop_answers(true);
        assert!(exchange(&mut two, "anything").await.is_err());
        within(PATIENCE, "the loss", proxy.until_lost(2)).await;
        assert_eq!(proxy.lost(), 2);
    }
}
