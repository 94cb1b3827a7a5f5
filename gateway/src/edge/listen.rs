//! The listener, and the loop that serves its connections until it is told to end.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::{
    Request, StatusCode, header::UPGRADE, http::Extensions, server::conn::http1,
    service::service_fn, upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tower::ServiceExt;

use super::{Edge, Graph, client::Peer, stall::Stall};

/// Connections that wait to be accepted: a burst of clients coming back after a restart must not be refused.
const BACKLOG: i32 = 4096;

/// Bytes of a request's line and headers.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// How long connections may take to end once they are told to.
const END: Duration = Duration::from_secs(10);

/// Why there is no listener, in one line that names the setting.
#[derive(Debug, thiserror::Error)]
#[error("setting `{setting}`: {address}: {reason}")]
pub struct ListenError {
    /// `listen`, or whichever setting held the address.
    pub setting: &'static str,
    /// The address as it was given.
    pub address: String,
    /// What is wrong with it.
    pub reason: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// A bound listener: connections wait in its backlog until they are served.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Listens on `host:port`; of a name's addresses the first that can be had. `setting` is for the error.
    ///
    /// # Errors
    /// An unknown name, a port that is taken or forbidden, an address that isn't this machine's.
    pub async fn bind(setting: &'static str, address: &str) -> Result<Self, ListenError> {
        let failed = |source: io::Error| ListenError {
            setting,
            address: address.to_owned(),
            reason: match source.kind() {
                io::ErrorKind::AddrInUse => "the port is taken by another program".to_owned(),
                io::ErrorKind::PermissionDenied => "not allowed to use this port".to_owned(),
                io::ErrorKind::AddrNotAvailable => "no address of this machine".to_owned(),
                _ => format!("can't listen there: {source}"),
            },
            source,
        };
        let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for candidate in lookup_host(address).await.map_err(failed)? {
            match listen(candidate) {
                Ok(listener) => {
                    let address = listener.local_addr().map_err(failed)?;
                    return Ok(Self { listener, address });
                }
                Err(refused) => error = refused,
            }
        }
        Err(failed(error))
    }

    /// The address in use, its port never 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // a restart must not wait for the connections of the process before
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves `listener` until `end` resolves. Then takes no connection any more, answers `/ready` with 503, closes sockets with
/// 1012, and waits until all requests are answered, for ten seconds at most. `more` are routes besides the edge's own, under
/// the same rules.
pub async fn serve<G: Graph>(
    listener: Listener,
    edge: Arc<Edge<G>>,
    more: Router,
    end: impl Future<Output = ()>,
) {
    let router = edge.router(more);
    serve_pages(listener, edge, router, end).await;
}

/// The same of `router` alone, which `edge` has made.
pub async fn serve_pages<G: Graph>(
    listener: Listener,
    edge: Arc<Edge<G>>,
    router: Router,
    end: impl Future<Output = ()>,
) {
    tokio::pin!(end);
    loop {
        let accepted = tokio::select! {
            () = end.as_mut() => break,
            accepted = listener.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(stream, peer, router.clone(), edge.clone());
                edge.tasks().spawn("connection", connection);
            }
            // of one connection that ended before it was taken
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) => {}
            Err(error) => {
                // out of file descriptors, most likely: others must end first
                tracing::error!(%error, "can't accept connections");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    if !edge.tasks().close(END).await {
        tracing::warn!("connections are cut that did not end in time");
    }
}

async fn connection<G: Graph>(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    edge: Arc<Edge<G>>,
) {
    // small messages must not wait for more; without it things are slow, not wrong
    let _ = stream.set_nodelay(true);
    let times = edge.times();
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let spelling = spelling(&request);
        let answering = router.clone().oneshot(request);
        async move {
            let mut response = answering.await?;
            if let Some(spelling) = spelling
                && response.status() == StatusCode::SWITCHING_PROTOCOLS
            {
                response.extensions_mut().extend(spelling);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let io = TokioIo::new(Stall::new(stream, times.stall));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(times.headers)
        .max_buf_size(MAX_HEADER_BYTES)
        .preserve_header_case(true)
        .serve_connection(io, service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = edge.ending().cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// How a request for an upgrade spelled the names of its headers: kept by hyper among the extensions, under a type of its own.
///
/// The case of a name means nothing (RFC 9110, section 5.1), yet some clients look for `Sec-WebSocket-Protocol` in the 101
/// answer by the very letters that they sent it with. Handed on to the answer, they are.
fn spelling<B>(request: &Request<B>) -> Option<Extensions> {
    request.headers().contains_key(UPGRADE).then(|| {
        let mut extensions = request.extensions().clone();
        extensions.remove::<OnUpgrade>();
        extensions
    })
}
