use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use ipnet::IpNet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

use super::*;

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// A server on loopback that gives each connection the same answer and keeps what it was sent.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(answer: impl Into<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, requests) = (answer.into(), Arc::new(Mutex::new(Vec::new())));
        let kept = requests.clone();
        let task = tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let (mut request, mut piece) = (Vec::new(), [0; 1024]);
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    match socket.read(&mut piece).await {
                        Ok(length @ 1..) => request.extend_from_slice(&piece[..length]),
                        _ => break,
                    }
                }
                kept.lock()
                    .unwrap()
                    .push(String::from_utf8_lossy(&request).into_owned());
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self {
            address,
            requests,
            task,
        }
    }

    fn url(&self, host: &str) -> Url {
        url(&format!("http://{host}:{}/path", self.address.port()))
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

fn ranges(text: &[&str]) -> Vec<IpNet> {
    text.iter().map(|range| range.parse().unwrap()).collect()
}

fn outbound(allow: &[&str], allow_tools: &[&str]) -> Outbound {
    let (allow, allow_tools) = (ranges(allow), ranges(allow_tools));
    Outbound::new(OutboundConfig {
        allow,
        allow_tools,
        ..OutboundConfig::default()
    })
    .unwrap()
}

/// The body of the answer, or why the address was refused.
async fn get(outbound: &Outbound, reach: Reach, url: &Url) -> Result<String, RefusedBecause> {
    match outbound.client(reach).get(url.clone()).send().await {
        Ok(response) => {
            Ok(String::from_utf8(read_limited(response, 1000).await.unwrap().to_vec()).unwrap())
        }
        Err(error) => Err(AddressRefused::find(&error)
            .unwrap_or_else(|| panic!("{error:?}"))
            .reason()),
    }
}

#[tokio::test]
async fn loopback_is_refused_by_default_in_all_its_names_except_to_the_operator() {
    let server = Server::start(HELLO).await;
    let outbound = outbound(&[], &[]);
    for host in [
        "127.0.0.1",
        "localhost",
        "LOCALHOST.",
        "x.localhost",
        "0x7f.1",
        "2130706433",
        "017700000001",
        "127.1",
        "0.0.0.0",
    ] {
        for reach in [Reach::Managed, Reach::Chosen] {
            assert!(outbound.check(reach, &server.url(host)).is_err(), "{host}");
            assert_eq!(
                get(&outbound, reach, &server.url(host)).await,
                Err(RefusedBecause::Address),
                "{host}"
            );
        }
    }
    for host in ["[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]"] {
        assert_eq!(
            get(&outbound, Reach::Managed, &server.url(host)).await,
            Err(RefusedBecause::Address),
            "{host}"
        );
        let tls = url(&format!("https://{host}:{}/", server.address.port()));
        assert_eq!(
            get(&outbound, Reach::Chosen, &tls).await,
            Err(RefusedBecause::Address),
            "{host}"
        );
    }
    assert_eq!(server.requests(), [""; 0], "nobody connected");
    for host in ["127.0.0.1", "localhost"] {
        assert_eq!(outbound.check(Reach::Operator, &server.url(host)), Ok(()));
        assert_eq!(
            get(&outbound, Reach::Operator, &server.url(host))
                .await
                .unwrap(),
            "hello"
        );
    }
    assert!(server.requests()[0].contains(concat!(
        "user-agent: weft/",
        env!("CARGO_PKG_VERSION"),
        "\r\n"
    )));
}

#[tokio::test]
async fn each_reach_has_its_own_allowed_ranges() {
    let server = Server::start(HELLO).await;
    let outbound = outbound(&["127.0.0.1/32"], &["10.0.0.0/8"]);
    for host in ["127.0.0.1", "localhost", "0x7f.1", "[::ffff:127.0.0.1]"] {
        assert_eq!(
            outbound.check(Reach::Managed, &server.url(host)),
            Ok(()),
            "{host}"
        );
        assert!(
            outbound.check(Reach::Chosen, &server.url(host)).is_err(),
            "{host}"
        );
    }
    for host in ["127.0.0.1", "localhost", "0x7f.1"] {
        assert_eq!(
            get(&outbound, Reach::Managed, &server.url(host))
                .await
                .unwrap(),
            "hello",
            "{host}"
        );
        assert_eq!(
            get(&outbound, Reach::Chosen, &server.url(host)).await,
            Err(RefusedBecause::Address),
            "{host}"
        );
    }
    assert_eq!(
        outbound.check(Reach::Chosen, &url("http://10.2.3.4/")),
        Ok(())
    );
    assert!(
        outbound
            .check(Reach::Managed, &url("http://10.2.3.4/"))
            .is_err()
    );
    assert!(
        outbound
            .check(Reach::Managed, &server.url("127.0.0.2"))
            .is_err()
    );
}

#[tokio::test]
async fn our_own_backends_are_refused_inside_allowed_ranges() {
    let (backend, other) = (Server::start(HELLO).await, Server::start(HELLO).await);
    let outbound = Outbound::new(OutboundConfig {
        allow: ranges(&["127.0.0.0/8", "::1/128"]),
        own_backends: vec![backend.address],
        ..OutboundConfig::default()
    })
    .unwrap();
    for host in [
        "127.0.0.1",
        "127.0.0.2",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
    ] {
        let url = backend.url(host);
        assert_eq!(
            outbound.check(Reach::Managed, &url).unwrap_err().reason(),
            RefusedBecause::OwnBackend,
            "{host}"
        );
        assert_eq!(
            get(&outbound, Reach::Managed, &url).await,
            Err(RefusedBecause::OwnBackend),
            "{host}"
        );
    }
    for host in ["127.0.0.1", "localhost"] {
        assert_eq!(
            get(&outbound, Reach::Managed, &other.url(host))
                .await
                .unwrap(),
            "hello",
            "another port of the host"
        );
    }
    assert_eq!(backend.requests(), [""; 0]);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Server::start(HELLO).await;
    let location = target.url("127.0.0.1");
    let server = Server::start(format!(
        "HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
    ))
    .await;
    let client = outbound(&["127.0.0.0/8"], &[]).client(Reach::Managed);
    let response = client.get(server.url("127.0.0.1")).send().await.unwrap();
    assert_eq!(response.status(), 302);
    assert_eq!(target.requests(), [""; 0]);
}

#[test]
fn an_address_is_checked_where_it_is_written() {
    use RefusedBecause::{Address, Port, Scheme, UserInfo};

    let outbound = outbound(&[], &[]);
    for (text, refused) in [
        ("http://example.com/v1", None),
        ("https://example.com:8443/v1", None),
        ("https://8.8.8.8/", None),
        ("https://[2606:4700::1111]/", None),
        ("http://localhost.example.com/", None),
        ("ftp://example.com/", Some(Scheme)),
        ("file:///etc/passwd", Some(Scheme)),
        ("unix:/run/x", Some(Scheme)),
        ("data:text/plain,x", Some(Scheme)),
        ("https://name@example.com/", Some(UserInfo)),
        ("https://:word@example.com/", Some(UserInfo)),
        ("http://example.com:25/", Some(Port)),
        ("http://example.com:6667/", Some(Port)),
        ("http://example.com:0/", Some(Port)),
        ("http://localhost/", Some(Address)),
        ("http://a.b.LocalHost./", Some(Address)),
        ("http://169.254.169.254/latest/meta-data", Some(Address)),
        ("http://0xa9fea9fe/", Some(Address)),
        ("http://１２７.0.0.1/", Some(Address)),
        ("http://%31%32%37.0.0.1/", Some(Address)),
        ("http://127.0.0.1./", Some(Address)),
        ("http://0/", Some(Address)),
        ("http://[::]/", Some(Address)),
        ("http://[fe80::1]/", Some(Address)),
    ] {
        for reach in [Reach::Managed, Reach::Chosen] {
            let answer = outbound.check(reach, &url(text)).err();
            assert_eq!(answer.map(|refused| refused.reason()), refused, "{text}");
        }
    }
    for text in [
        "http://[fe80::1%25eth0]/",
        "http://1.2.3.4.5/",
        "http://256.0.0.1/",
        "http://a b/",
        "http:///",
    ] {
        assert!(Url::parse(text).is_err(), "{text} is no address at all");
    }
    let refused = outbound
        .check(Reach::Chosen, &url("http://127.0.0.1/"))
        .unwrap_err();
    assert_eq!(refused.to_string(), "address not allowed");
    assert!(
        outbound
            .check(Reach::Operator, &url("ftp://example.com/"))
            .is_err()
    );
    assert_eq!(
        outbound.check(Reach::Operator, &url("http://name:word@10.0.0.1:25/")),
        Ok(())
    );
}

#[tokio::test]
async fn names_go_through_the_proxy_and_what_is_inside_does_not() {
    let (proxy, server) = (
        Server::start(HELLO).await,
        Server::start(HELLO.replace("hello", "there")).await,
    );
    for host in ["127.0.0.1", "localhost"] {
        let outbound = Outbound::new(OutboundConfig {
            allow: ranges(&["127.0.0.1/32"]),
            proxy: Some(url(&format!(
                "http://name:word@{host}:{}",
                proxy.address.port()
            ))),
            ..OutboundConfig::default()
        })
        .unwrap();
        for reach in [Reach::Operator, Reach::Managed, Reach::Chosen] {
            assert_eq!(
                get(&outbound, reach, &url("http://somewhere.invalid/x"))
                    .await
                    .unwrap(),
                "hello",
                "{reach:?}"
            );
        }
        assert_eq!(
            get(&outbound, Reach::Managed, &server.url("127.0.0.1"))
                .await
                .unwrap(),
            "there"
        );
        assert_eq!(
            get(&outbound, Reach::Managed, &server.url("localhost"))
                .await
                .unwrap(),
            "there"
        );
        assert_eq!(
            get(&outbound, Reach::Chosen, &server.url("localhost")).await,
            Err(RefusedBecause::Address)
        );
        assert_eq!(
            get(&outbound, Reach::Managed, &url("http://10.0.0.1/")).await,
            Err(RefusedBecause::Address)
        );
    }
    let requests = proxy.requests();
    assert_eq!(requests.len(), 6);
    for request in requests {
        assert!(
            request.starts_with("GET http://somewhere.invalid/x HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(
            request.contains("proxy-authorization: Basic bmFtZTp3b3Jk\r\n"),
            "{request}"
        );
    }
}

#[tokio::test]
async fn tls_goes_through_the_proxy_by_a_tunnel() {
    let proxy = Server::start("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
    let outbound = Outbound::new(OutboundConfig {
        proxy: Some(proxy.url("127.0.0.1")),
        ..Default::default()
    })
    .unwrap();
    let error = outbound
        .client(Reach::Chosen)
        .get("https://somewhere.invalid/x")
        .send()
        .await
        .unwrap_err();
    assert!(
        error.is_connect() && AddressRefused::find(&error).is_none(),
        "{error:?}"
    );
    assert!(proxy.requests()[0].starts_with("CONNECT somewhere.invalid:443 HTTP/1.1\r\n"));
}

#[test]
fn a_proxy_must_be_one() {
    for bad in ["socks5://127.0.0.1:1080", "file:///x"] {
        let proxy = Some(url(bad));
        assert!(
            matches!(
                Outbound::new(OutboundConfig {
                    proxy,
                    ..Default::default()
                }),
                Err(OutboundError::Proxy)
            ),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn a_body_is_read_within_its_limit() {
    let chunked =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
    let cut = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel";
    for (answer, limit, expected) in [
        (HELLO, 5, Ok("hello")),
        (HELLO, 4, Err("answer is longer than 4 bytes")),
        (chunked, 5, Ok("hello")),
        (chunked, 4, Err("answer is longer than 4 bytes")),
        (chunked, 0, Err("answer is longer than 0 bytes")),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 0, Ok("")),
        (cut, 100, Err("answer broke off")),
    ] {
        let server = Server::start(answer).await;
        let client = outbound(&["127.0.0.0/8"], &[]).client(Reach::Managed);
        let response = client.get(server.url("127.0.0.1")).send().await.unwrap();
        match (read_limited(response, limit).await, expected) {
            (Ok(body), Ok(expected)) => assert_eq!(body, expected),
            (Err(error), Err(expected)) => {
                assert_eq!(error.to_string(), expected);
                assert!(!format!("{error:?}").contains("127.0.0.1"), "{error:?}");
            }
            (answer, _) => panic!("{answer:?} for {expected:?}"),
        }
    }
}
