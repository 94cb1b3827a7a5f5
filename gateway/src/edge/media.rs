//! Media types of requests and answers.

use axum::http::{HeaderMap, HeaderValue, header};

/// In which form one answer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/graphql-response+json`: the status tells a request that did not run from one that did.
    GraphqlResponse,
    /// `application/json`, for clients from before: 200 for whatever was a well-formed request.
    Json,
}

impl Media {
    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
        })
    }
}

/// In which form many answers are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Many {
    /// `text/event-stream`: server-sent events, as npm's graphql-sse has them in its distinct-connections mode.
    Events,
    /// `multipart/mixed; subscriptionSpec=1.0`: Apollo's protocol of subscriptions over HTTP.
    Parts,
}

/// What a client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepted {
    /// For one answer.
    pub(super) one: Option<Media>,
    /// For many. Has to be asked for by name: whoever takes anything expects one answer.
    pub(super) many: Option<Many>,
}

/// How specific the best matching range is, and its weight; the more specific range counts.
type Found = (u8, f32);

impl Accepted {
    /// What the `Accept` headers like best. Of the two kinds of JSON the newer one has to be named: the GraphQL-over-HTTP
    /// specification takes a client that says nothing, or `*/*`, for one from before it.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut accepts = headers.get_all(header::ACCEPT).iter().peekable();
        if accepts.peek().is_none() {
            return Self {
                one: Some(Media::Json),
                many: None,
            };
        }
        let [mut newer, mut older, mut events, mut parts]: [Found; 4] = Default::default();
        for range in accepts
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
        {
            let range = Range::read(range);
            let matches = |found: &mut Found, specific: u8| {
                if specific > found.0 {
                    *found = (specific, range.weight);
                }
            };
            match range.essence.as_str() {
                "application/graphql-response+json" if range.is_utf8 => matches(&mut newer, 3),
                "application/json" if range.is_utf8 => matches(&mut older, 3),
                "application/*" if range.is_utf8 => {
                    matches(&mut newer, 2);
                    matches(&mut older, 2);
                }
                "*/*" if range.is_utf8 => {
                    matches(&mut newer, 1);
                    matches(&mut older, 1);
                }
                "text/event-stream" if range.is_utf8 => matches(&mut events, 3),
                "multipart/mixed" if range.is_of_subscriptions => matches(&mut parts, 3),
                _ => {}
            }
        }
        let one = match () {
            () if newer.1 <= 0.0 && older.1 <= 0.0 => None,
            () if newer.1 > older.1 || (newer.1 >= older.1 && newer.0 == 3) => {
                Some(Media::GraphqlResponse)
            }
            () => Some(Media::Json),
        };
        let many = match () {
            () if events.1 <= 0.0 && parts.1 <= 0.0 => None,
            () if events.1 >= parts.1 => Some(Many::Events),
            () => Some(Many::Parts),
        };
        Self { one, many }
    }

    /// For a request that is refused before it is known what it asks.
    pub(super) fn refusal(self) -> Media {
        self.one.unwrap_or(Media::Json)
    }
}

/// One of the ranges in `Accept`.
struct Range {
    essence: String,
    weight: f32,
    is_utf8: bool,
    is_of_subscriptions: bool,
}

impl Range {
    fn read(text: &str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let mut range = Self {
            essence: parts.next().unwrap_or_default().to_ascii_lowercase(),
            weight: 1.0,
            is_utf8: true,
            is_of_subscriptions: false,
        };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => range.weight = value.parse().unwrap_or(0.0),
                "charset" => range.is_utf8 = is_utf8(value),
                "subscriptionspec" => range.is_of_subscriptions = value.trim_matches('"') == "1.0",
                _ => {}
            }
        }
        range
    }
}

/// Whether a body is JSON in UTF-8 by its one `Content-Type`. A page can't send that to another origin without being asked first.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    is_text_of(headers, "application/json")
}

/// Whether a body is a form in UTF-8 by its one `Content-Type`.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    is_text_of(headers, "application/x-www-form-urlencoded")
}

fn is_text_of(headers: &HeaderMap, wanted: &str) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(Ok(value)), None) = (types.next().map(HeaderValue::to_str), types.next()) else {
        return false;
    };
    let mut parts = value.split(';').map(str::trim);
    let fits = parts
        .next()
        .is_some_and(|essence| essence.eq_ignore_ascii_case(wanted));
    fits && parts
        .filter_map(|part| part.split_once('='))
        .all(|(name, value)| !name.trim().eq_ignore_ascii_case("charset") || is_utf8(value))
}

/// Whether a body is compressed, or otherwise not what its `Content-Type` says until it is decoded. `identity` says that it is not.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn is_utf8(charset: &str) -> bool {
    let charset = charset.trim().trim_matches('"');
    charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &header::HeaderName, values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn accept() {
        let (new, old) = (Some(Media::GraphqlResponse), Some(Media::Json));
        let cases: &[(&[&str], Option<Media>)] = &[
            (&[], old),
            (&["*/*"], old),
            (&["application/*"], old),
            (&["application/json"], old),
            (&["Application/JSON; charset=UTF-8"], old),
            (&["application/json; charset=latin1"], None),
            (&["application/graphql-response+json"], new),
            (
                &["application/graphql-response+json, application/json"],
                new,
            ),
            (
                &["application/json, application/graphql-response+json"],
                new,
            ),
            (&["application/graphql-response+json, */*"], new),
            (
                &["application/graphql-response+json;q=0.5, application/json;q=0.9"],
                old,
            ),
            (
                &[
                    "application/json",
                    "application/graphql-response+json;q=0.1",
                ],
                old,
            ),
            (&["*/*, application/json;q=0.1"], new),
            (&["*/*, application/graphql-response+json;q=0"], old),
            (&["application/json;q=0.9, */*;q=0.1"], old),
            (&["text/html, application/json;q=0"], None),
            (&["text/html"], None),
            (&["text/event-stream"], None),
            (&[""], None),
            (&["application/json;q=nonsense"], None),
        ];
        for (accept, expected) in cases {
            let accepted = Accepted::of(&headers(&header::ACCEPT, accept));
            assert_eq!(accepted.one, *expected, "{accept:?}");
        }
    }

    #[test]
    fn streams_are_asked_for_by_name() {
        let (events, parts) = (Some(Many::Events), Some(Many::Parts));
        let cases: &[(&[&str], Option<Many>)] = &[
            (&[], None),
            (&["*/*, text/*, multipart/*"], None),
            (&["text/event-stream"], events),
            (&["text/event-stream;q=0"], None),
            (&["Text/Event-Stream;charset=utf-8, */*"], events),
            (&["multipart/mixed"], None),
            (&["multipart/mixed;deferSpec=20220824"], None),
            (&["multipart/mixed;subscriptionSpec=2.0"], None),
            (
                &["multipart/mixed;boundary=graphql;subscriptionSpec=1.0,application/json"],
                parts,
            ),
            (
                &[
                    "multipart/mixed;boundary=\"graphql\";subscriptionSpec=\"1.0\", text/event-stream;q=0.5",
                ],
                parts,
            ),
            (
                &["multipart/mixed;subscriptionSpec=1.0", "text/event-stream"],
                events,
            ),
        ];
        for (accept, expected) in cases {
            let accepted = Accepted::of(&headers(&header::ACCEPT, accept));
            assert_eq!(accepted.many, *expected, "{accept:?}");
        }
    }

    #[test]
    fn content_type() {
        let cases: &[(&[&str], bool)] = &[
            (&["application/json"], true),
            (&["APPLICATION/json ; charset=\"utf-8\""], true),
            (&["application/json; charset=utf-16"], false),
            (&["application/jsonp"], false),
            (&["text/plain"], false),
            (&["application/x-www-form-urlencoded"], false),
            (&["application/json", "text/plain"], false),
            (&[], false),
        ];
        for (types, expected) in cases {
            assert_eq!(
                is_json(&headers(&header::CONTENT_TYPE, types)),
                *expected,
                "{types:?}"
            );
        }
    }
}
