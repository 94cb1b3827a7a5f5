//! Media types of requests and answers.

use axum::http::{HeaderMap, HeaderValue, header};

/// In which form to answer.
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

    /// What the `Accept` headers like best; `None`: neither. Where both are liked the same, the newer one.
    pub(super) fn accepted(headers: &HeaderMap) -> Option<Self> {
        let mut accepts = headers.get_all(header::ACCEPT).iter().peekable();
        if accepts.peek().is_none() {
            return Some(Self::GraphqlResponse);
        }
        // for each of the two: how specific the best matching range is, and its weight; the more specific range counts
        let mut found = [(0_u8, 0.0_f32); 2];
        for range in accepts
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
        {
            let mut parts = range.split(';').map(str::trim);
            let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut weight, mut fits) = (1.0, true);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => weight = value.trim().parse().unwrap_or(0.0),
                    "charset" => fits = is_utf8(value),
                    _ => {}
                }
            }
            let matches: [u8; 2] = match essence.as_str() {
                "application/graphql-response+json" => [3, 0],
                "application/json" => [0, 3],
                "application/*" => [2, 2],
                "*/*" => [1, 1],
                _ => [0, 0],
            };
            for (found, specific) in found.iter_mut().zip(matches) {
                if fits && specific > found.0 {
                    *found = (specific, weight);
                }
            }
        }
        let [newer, older] = found.map(|(_, weight)| weight);
        match () {
            () if newer <= 0.0 && older <= 0.0 => None,
            () if newer >= older => Some(Self::GraphqlResponse),
            () => Some(Self::Json),
        }
    }
}

/// Whether a body is JSON in UTF-8 by its one `Content-Type`. A page can't send that to another origin without being asked first.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(Ok(value)), None) = (types.next().map(HeaderValue::to_str), types.next()) else {
        return false;
    };
    let mut parts = value.split(';').map(str::trim);
    let json = parts
        .next()
        .is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    json && parts
        .filter_map(|part| part.split_once('='))
        .all(|(name, value)| !name.trim().eq_ignore_ascii_case("charset") || is_utf8(value))
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
            (&[], new),
            (&["*/*"], new),
            (&["application/*"], new),
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
            (&["*/*, application/graphql-response+json;q=0"], old),
            (&["application/json;q=0.9, */*;q=0.1"], old),
            (&["text/html, application/json;q=0"], None),
            (&["text/html"], None),
            (&["text/event-stream"], None),
            (&[""], None),
            (&["application/json;q=nonsense"], None),
        ];
        for (accept, expected) in cases {
            assert_eq!(
                Media::accepted(&headers(&header::ACCEPT, accept)),
                *expected,
                "{accept:?}"
            );
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
