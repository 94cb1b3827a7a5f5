//! `weft serve`: from a configuration to a server that answers, and to its end.

use std::{io::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use adapters::{sealing::Secret, tasks::Tasks};
use axum::{Router, http::header, response::IntoResponse, routing::get};
use futures_util::{FutureExt, future::BoxFuture};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    edge::{self, Edge, Listener, Readers, Scrape, Settings, serve_pages},
    graph::AppGraph,
    metrics::Metrics,
    page,
    wiring::{App, Ground},
};

/// Told by the system to end.
struct Signals(Signal, Signal);

impl Signals {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.0.recv() => "SIGTERM",
            _ = self.1.recv() => "SIGINT",
        }
    }
}

/// How long what counts may take to end.
const END: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT; a second one ends it at once.
///
/// # Errors
/// It can't start: one line that names the setting.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut signals = Signals(
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let ground = Ground::take(&config)?;
    if ground.previous_key().is_some() {
        tracing::info!(
            "there is a key before the secret key: `weft rotate-key` seals all by the new one"
        );
    }
    let listener = Listener::bind("listen", &config.listen).await?;
    let address = listener.address();
    let edge = Edge::<AppGraph>::new(Settings::new(&config, address)?);
    let end = CancellationToken::new();
    let metrics = Metrics::start()?;
    let counting = Tasks::new();
    metrics.keep(&counting);
    let scraped = counting.spawn("/metrics", scraped(&config, &metrics, end.clone()).await?);
    // From here on `/health` answers, and everything else: not yet.
    let serving = edge::serve(
        listener,
        edge.clone(),
        pages(&config, &metrics, address).merge(credentials(&config, &edge)),
        end.clone().cancelled_owned(),
    );
    let served = Tasks::new().spawn("the server", serving);

    let app = tokio::select! {
        app = App::new(&config, &ground, address) => app?,
        name = signals.next() => {
            tracing::info!(signal = name, "ending before it began");
            return Ok(());
        }
    };
    metrics.watch(&app);
    if config.roles.api {
        edge.open(app.graph(&config, address));
    }
    ground.folder.write_address(address)?;
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(%address, ms, version = env!("CARGO_PKG_VERSION"), "serving");
    welcome(&config, &app, address).await?;

    let name = signals.next().await;
    tracing::info!(signal = name, "ending");
    let ending = async {
        // Clients are told to come back elsewhere, or later; what they asked for goes on meanwhile, for as long as that may take.
        end.cancel();
        let ((), served, scraped) = tokio::join!(app.engine.close(), served, scraped);
        counting.close(END).await;
        if let Err(error) = served.and(scraped) {
            tracing::error!(%error, "the server ended badly");
        }
        app.close().await;
        ground.folder.remove_address();
    };
    tokio::select! {
        () = ending => tracing::info!("ended"),
        name = signals.next() => tracing::warn!(signal = name, "ending at once"),
    }
    Ok(())
}

/// What is served besides the graph.
fn pages(config: &Config, metrics: &Arc<Metrics>, address: SocketAddr) -> Router {
    let mut pages = Router::new();
    if config.graphiql && config.roles.api {
        pages = pages.merge(page::routes());
    }
    if config.metrics_listen.is_none() {
        let at_the_machine = address.ip().is_loopback()
            && config.public_url.is_none()
            && config.trusted_proxies.is_empty();
        let readers = match at_the_machine {
            true => Readers::AtTheMachine,
            false => Readers::Nobody,
        };
        pages = pages.merge(scrape(config, metrics, readers));
    }
    if config.introspection {
        let sdl = schema::sdl();
        pages = pages.route(
            "/schema.graphql",
            get(async move || {
                ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], sdl).into_response()
            }),
        );
    }
    pages
}

/// How credentials are given and checked without a document.
fn credentials(config: &Config, edge: &Arc<Edge<AppGraph>>) -> Router {
    let keys = edge.keys_route();
    match config.token_endpoint {
        true => keys.merge(edge.token_route()),
        false => keys,
    }
}

fn scrape(config: &Config, metrics: &Arc<Metrics>, readers: Readers) -> Router {
    let (metrics, token) = (metrics.clone(), config.metrics_token.clone());
    let text = move || {
        let metrics = metrics.clone();
        async move { metrics.text().await }.boxed()
    };
    let text = Box::new(text);
    Scrape {
        token,
        readers,
        text,
    }
    .route()
}

/// `/metrics` at an address of its own, if it has one: served until `end`.
async fn scraped(
    config: &Config,
    metrics: &Arc<Metrics>,
    end: CancellationToken,
) -> anyhow::Result<BoxFuture<'static, ()>> {
    let Some(listen) = &config.metrics_listen else {
        return Ok(async {}.boxed());
    };
    let listener = Listener::bind("metrics_listen", listen).await?;
    let address = listener.address();
    tracing::info!(%address, "serving metrics");
    // by the names of that address: nobody comes here by the one that people know
    let mut local = config.clone();
    local.public_url = None;
    local.trusted_documents.folder = None;
    let edge = Edge::<AppGraph>::new(Settings::new(&local, address)?);
    let pages = edge.pages(scrape(config, metrics, Readers::Everybody));
    Ok(serve_pages(listener, edge, pages, end.cancelled_owned()).boxed())
}

/// Says where it is and what to do next.
async fn welcome(config: &Config, app: &App, address: SocketAddr) -> anyhow::Result<()> {
    let base = match &config.public_url {
        Some(url) => url.as_str().trim_end_matches('/').to_owned(),
        None => format!("http://{}", reachable(address)),
    };
    let mut text = format!("Weft {} is at {base}\n", env!("CARGO_PKG_VERSION"));
    if app.authority.needs_setup().await? {
        // Whoever stands at the machine needs no token, unless others could seem to.
        let at_the_machine = address.ip().is_loopback()
            && config.public_url.is_none()
            && config.trusted_proxies.is_empty();
        let token = (!at_the_machine).then(|| app.authority.setup_token());
        let token = token.as_ref().map(Secret::expose);
        text += &match config.graphiql && config.roles.api {
            true => first_user_by_page(&base, token),
            false => first_user_by_hand(&base, token),
        };
    }
    text += &format!("The graph is at {base}/graphql");
    if config.introspection {
        text += &format!(", its schema at {base}/schema.graphql");
    }
    text += ". Settings: `weft config`. Stop it by Ctrl-C.\n";
    // Nobody may be there to read it.
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(())
}

/// What may not stand in a link as it is.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The link to the form of the first user. The token is in the fragment, which browsers send to nobody.
fn first_user_by_page(base: &str, token: Option<&str>) -> String {
    let fragment = token
        .map(|token| format!("#setup={}", utf8_percent_encode(token, RESERVED)))
        .unwrap_or_default();
    format!("\nMake the first user in a browser:\n\n  {base}/{fragment}\n\n")
}

/// The command that makes the first user, where there is no page for it.
fn first_user_by_hand(base: &str, token: Option<&str>) -> String {
    let mut first = serde_json::json!({"email": "you@example.com", "password": "CHOOSE-ONE", "name": "You", "tenantName": "Your team"});
    if let Some(token) = token {
        first["token"] = token.into();
    }
    let query = "mutation($input: SetUpInput!) { setUp(input: $input) { accessToken errors { message path } } }";
    let body = serde_json::json!({"query": query, "variables": {"input": first}});
    format!(
        "\nMake the first user, with a password of your own; the answer's accessToken is then the header `Authorization: Bearer …`:\n\n  \
         curl {base}/graphql -H 'Content-Type: application/json' -d '{body}'\n\n"
    )
}

/// An address that a client on this machine can call.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
        _ => address,
    }
}
