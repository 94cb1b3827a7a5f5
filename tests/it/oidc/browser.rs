//! A browser as far as a sign-in needs one: it follows redirects and keeps cookies, by server.

use std::{collections::BTreeMap, sync::Mutex};

use reqwest::{Url, header};

/// A browser. Another one has other cookies.
pub struct Browser {
    http: reqwest::Client,
    cookies: Mutex<BTreeMap<(String, String), String>>,
}

/// Where it came to.
#[derive(Debug)]
pub struct Page {
    /// Status of the last answer; of a redirect that was not followed, its own.
    pub status: u16,
    /// Of the last answer.
    pub headers: header::HeaderMap,
    /// Where it is, or where it was sent and did not go.
    pub url: Url,
    /// What it shows.
    pub text: String,
}

impl Page {
    /// A parameter of the address.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = self.url.query_pairs();
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }
}

/// Redirects in a row.
const MANY: usize = 12;

impl Browser {
    pub fn new() -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        Self {
            http: http.build().expect("a client"),
            cookies: Mutex::default(),
        }
    }

    /// Goes to an address and on from there, until it is sent to one that `stop` knows, which it does not go to.
    pub async fn go(&self, url: &str, stop: impl Fn(&Url) -> bool) -> Page {
        let mut url = Url::parse(url).expect("an address");
        for _ in 0..MANY {
            let page = self.visit(&url).await;
            let Some(next) = page.headers.get(header::LOCATION) else {
                return page;
            };
            url = url
                .join(next.to_str().expect("a text"))
                .expect("an address");
            if stop(&url) {
                return Page { url, ..page };
            }
        }
        panic!("it is sent round and round: {url}");
    }

    /// Goes to an address and no further.
    pub async fn visit(&self, url: &Url) -> Page {
        let site = url.authority().to_owned();
        let cookies: Vec<_> = self
            .cookies
            .lock()
            .expect("no test has panicked with it")
            .iter()
            .filter(|((at, _), _)| *at == site)
            .map(|((_, name), value)| format!("{name}={value}"))
            .collect();
        let mut request = self.http.get(url.clone());
        if !cookies.is_empty() {
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        let answer = request.send().await.expect("an answer");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        self.keep(&site, &headers);
        Page {
            status,
            headers,
            url: url.clone(),
            text: answer.text().await.expect("a text"),
        }
    }

    fn keep(&self, site: &str, headers: &header::HeaderMap) {
        let mut kept = self.cookies.lock().expect("no test has panicked with it");
        for cookie in headers.get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().expect("a text");
            let pair = cookie.split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').expect("a cookie");
            let key = (site.to_owned(), name.to_owned());
            if value.is_empty() || cookie.contains("Max-Age=0") {
                kept.remove(&key);
            } else {
                kept.insert(key, value.to_owned());
            }
        }
    }

    /// Its cookies of a server: names and what they hold.
    pub fn cookies(&self, url: &str) -> Vec<(String, String)> {
        let url = Url::parse(url).expect("an address");
        let kept = self.cookies.lock().expect("no test has panicked with it");
        let of_site = kept.iter().filter(|((site, _), _)| site == url.authority());
        of_site
            .map(|((_, name), value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Puts a cookie where another has left one.
    pub fn hold(&self, url: &str, name: &str, value: &str) {
        let url = Url::parse(url).expect("an address");
        let key = (url.authority().to_owned(), name.to_owned());
        let mut kept = self.cookies.lock().expect("no test has panicked with it");
        kept.insert(key, value.to_owned());
    }
}
