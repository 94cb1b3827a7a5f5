//! The page at `/`: GraphiQL with sign-in and streams, from the binary alone.
//!
//! Responsible for how its files are served: types, caching, and the policy under which a browser runs them. What they are made of
//! stands in `gateway/page`; `gateway/page/build` makes them.

use std::sync::OnceLock;

use aws_lc_rs::digest;
use axum::{
    Router,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

/// A file of the page.
struct File {
    path: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
    tag: OnceLock<HeaderValue>,
}

impl File {
    const fn new(path: &'static str, media_type: &'static str, bytes: &'static [u8]) -> Self {
        Self {
            path,
            media_type,
            bytes,
            tag: OnceLock::new(),
        }
    }

    /// By which a browser asks whether it has it already: weak, since it may be compressed on its way.
    fn tag(&self) -> &HeaderValue {
        self.tag.get_or_init(|| {
            let digest = digest::digest(&digest::SHA256, self.bytes);
            let digits: String = digest.as_ref()[..12]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            HeaderValue::try_from(format!("W/\"{digits}\""))
                .unwrap_or(HeaderValue::from_static("W/\"\""))
        })
    }
}

static FILES: [File; 5] = [
    File::new(
        "/",
        "text/html; charset=utf-8",
        include_bytes!("../page/dist/index.html"),
    ),
    File::new(
        "/page/page.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../page/dist/page.js"),
    ),
    File::new(
        "/page/page.css",
        "text/css; charset=utf-8",
        include_bytes!("../page/dist/page.css"),
    ),
    File::new(
        "/page/icon.svg",
        "image/svg+xml",
        include_bytes!("../page/dist/icon.svg"),
    ),
    File::new(
        "/page/LICENSES.txt",
        "text/plain; charset=utf-8",
        include_bytes!("../page/dist/LICENSES.txt"),
    ),
];

/// The page's routes.
pub fn routes() -> Router {
    FILES.iter().fold(Router::new(), |router, file| {
        router.route(
            file.path,
            get(async move |headers: HeaderMap| answer(file, &headers)),
        )
    })
}

fn answer(file: &File, asked: &HeaderMap) -> Response {
    let headers = [
        // The names stay the same over versions, so that replicas of two versions serve the same page: it is asked for again each
        // time, and seldom sent.
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-cache"),
        ),
        (header::ETAG, file.tag().clone()),
        (header::CONTENT_SECURITY_POLICY, policy(asked)),
        // for browsers that don't know `frame-ancestors`
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
        (OPENER_POLICY, HeaderValue::from_static("same-origin")),
        (RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
    ];
    if is_known(file, asked) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let media_type = [(header::CONTENT_TYPE, file.media_type)];
    (headers, media_type, file.bytes).into_response()
}

const OPENER_POLICY: header::HeaderName =
    header::HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: header::HeaderName =
    header::HeaderName::from_static("cross-origin-resource-policy");

/// Whether the browser has these bytes already.
fn is_known(file: &File, asked: &HeaderMap) -> bool {
    let strong = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let ours = file.tag().to_str().map(strong).unwrap_or_default();
    asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| strong(tag) == ours)
}

/// What the page may do: run its own script, show its own styles, talk to the server that it came from.
fn policy(asked: &HeaderMap) -> HeaderValue {
    // `'self'` does not cover sockets in every browser, and a name can't be left out. That the host is ours has been seen to; here
    // it must only be one, so that it can't add to the policy.
    let sockets = asked
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .filter(|host| {
            host.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
        })
        .map(|host| format!(" ws://{host} wss://{host}"))
        .unwrap_or_default();
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'{sockets}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Body,
        http::{Request, StatusCode, header},
    };
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::{FILES, routes};

    async fn ask(
        path: &str,
        more: &[(header::HeaderName, &str)],
    ) -> (StatusCode, header::HeaderMap, Vec<u8>) {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        for (name, value) in more {
            request.headers_mut().append(name, value.parse().unwrap());
        }
        let (parts, body) = routes().oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, bytes.to_vec())
    }

    #[tokio::test]
    async fn every_file_of_the_page_is_served_under_its_policy() {
        let mut names: Vec<_> =
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/page/dist"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
        names.sort();
        assert_eq!(names.len(), FILES.len());
        for name in names {
            let path = match name.as_str() {
                "index.html" => "/".to_owned(),
                name => format!("/page/{name}"),
            };
            let (status, headers, bytes) = ask(&path, &[]).await;
            assert_eq!(status, StatusCode::OK, "{path}");
            let file = format!("{}/page/dist/{name}", env!("CARGO_MANIFEST_DIR"));
            assert!(bytes == std::fs::read(file).unwrap(), "{path}");
            let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            for part in [
                "default-src 'none'",
                "script-src 'self';",
                "style-src 'self';",
                "frame-ancestors 'none'",
            ] {
                assert!(policy.contains(part), "{path}: {policy}");
            }
            assert!(!policy.contains("unsafe"), "{path}: {policy}");
            assert_eq!(headers[header::X_FRAME_OPTIONS], "DENY");
            assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");

            let tag = headers[header::ETAG].to_str().unwrap();
            let (status, headers, bytes) = ask(&path, &[(header::IF_NONE_MATCH, tag)]).await;
            assert_eq!(
                (status, bytes.len()),
                (StatusCode::NOT_MODIFIED, 0),
                "{path}"
            );
            assert_eq!(headers[header::ETAG], tag);
            let (status, ..) = ask(&path, &[(header::IF_NONE_MATCH, "W/\"another\"")]).await;
            assert_eq!(status, StatusCode::OK, "{path}");
        }
    }

    #[tokio::test]
    async fn the_policy_names_the_sockets_of_the_host_and_nothing_else() {
        let policy = async |host: &str| {
            let (_, headers, _) = ask("/", &[(header::HOST, host)]).await;
            headers[header::CONTENT_SECURITY_POLICY]
                .to_str()
                .unwrap()
                .to_owned()
        };
        for host in ["127.0.0.1:8080", "[::1]:80", "weft.example"] {
            let expected = format!("connect-src 'self' ws://{host} wss://{host};");
            assert!(policy(host).await.contains(&expected), "{host}");
        }
        for host in ["a.example *", "a.example; script-src *", "a,b"] {
            assert!(policy(host).await.contains("connect-src 'self';"), "{host}");
        }
    }

    /// Everything that runs comes from files of its own: the policy would stop the rest, and the page with it.
    #[test]
    fn the_html_holds_no_script_and_no_style() {
        let html = std::str::from_utf8(FILES[0].bytes).unwrap();
        for (at, _) in html.match_indices("<script") {
            let tag = &html[at..];
            assert!(
                tag[..tag.find('>').unwrap()].contains(" src=\"page/"),
                "{tag}"
            );
            assert!(
                tag[tag.find('>').unwrap()..].starts_with("></script>"),
                "{tag}"
            );
        }
        assert!(html.contains("<script"));
        for forbidden in [
            "<style",
            " style=",
            " onload=",
            " onclick=",
            " onerror=",
            "javascript:",
            "http:",
            "https:",
        ] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
    }
}
