use adapters::sealing::Secret;
use entities::{ModelKind, ModelProvider, Refusal};
use rust_decimal::Decimal;

use super::Checks;

/// A header sent to a model's endpoint.
#[derive(Debug, Clone)]
pub struct Header {
    /// Its name (RFC 9110, 5.1); case does not matter.
    pub name: String,
    /// Its value (RFC 9110, 5.5); `None` takes the header off.
    pub value: Option<Secret>,
}

/// Prices of a million tokens, in the tenant's currency. Of each, `None` leaves it and `Some(None)` takes it off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pricing {
    /// Of those sent.
    pub input_per_million: Option<Option<Decimal>>,
    /// Of those received.
    pub output_per_million: Option<Option<Decimal>>,
    /// Of those sent that the provider had cached.
    pub cached_input_per_million: Option<Option<Decimal>>,
}

/// Characters of a provider's name for a model.
pub(super) const MODEL_NAME: usize = 256;
/// How many models are tried after one.
const FALLBACKS: usize = 10;
/// How many headers a model has.
const HEADERS: usize = 32;
/// Bytes of a header's name.
const HEADER_NAME: usize = 200;
/// Bytes of a header's value, and of a key, which goes in one.
const HEADER_VALUE: usize = 8_192;
/// Digits of a price before the point, and after it.
const WHOLE: i64 = 1_000_000_000_000;
const DECIMALS: u32 = 6;

/// Set by the client, or they say how a message is framed, or who else may read it.
const FORBIDDEN_HEADERS: &[&str] = &[
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "accept-encoding",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
];

impl Checks {
    /// A kind that is served.
    pub(super) fn served(&mut self, kind: ModelKind) {
        if kind != ModelKind::Chat {
            self.take::<()>(Err(Refusal::invalid(
                &["input", "kind"],
                "kind other than CHAT is not served yet",
            )));
        }
    }

    /// The provider's name for a model.
    pub(super) fn model_name(&mut self, provider: ModelProvider, name: &str) {
        let path = &["input", "modelName"];
        self.filled(path, Some(name), MODEL_NAME);
        if provider == ModelProvider::Builtin && name.trim() != providers::EXTRACTIVE {
            let message = format!("the only BUILTIN model is {:?}", providers::EXTRACTIVE);
            self.take::<()>(Err(Refusal::invalid(path, message)));
        }
    }

    /// Nothing to call it with, where it is called nowhere.
    pub(super) fn builtin_has_no(&mut self, provider: ModelProvider, field: &str, given: bool) {
        if provider == ModelProvider::Builtin && given {
            let message = format!("a BUILTIN model has no {field}");
            self.take::<()>(Err(Refusal::invalid(&["input", field], message)));
        }
    }

    /// Only embedding models have dimensions.
    pub(super) fn dimensions(&mut self, kind: ModelKind, dimensions: Option<i32>) {
        let path = &["input", "dimensions"];
        if dimensions.is_some() && kind != ModelKind::Embedding {
            let message = "dimensions are those of an EMBEDDING model";
            self.take::<()>(Err(Refusal::invalid(path, message)));
        } else {
            self.positive(path, dimensions);
        }
    }

    /// A key, which goes in a header.
    pub(super) fn api_key(&mut self, key: Option<&Secret>) {
        if let Some(key) = key {
            self.take(header_value(&["input", "apiKey"], "apiKey", key));
        }
    }

    /// Headers as RFC 9110 has them, none of them twice, none that frames the request.
    pub(super) fn headers(&mut self, headers: &[Header]) {
        self.header_count(headers.len());
        for (at, header) in headers.iter().enumerate().take(HEADERS) {
            let at_name = ["input", "headers", &at.to_string(), "name"].map(str::to_owned);
            let at_name = at_name.each_ref().map(String::as_str);
            if self.take(header_name(&at_name, &header.name)).is_none() {
                continue;
            }
            if headers[..at]
                .iter()
                .any(|before| before.name.eq_ignore_ascii_case(&header.name))
            {
                let message = format!("the header {} is given twice", header.name);
                self.take::<()>(Err(Refusal::invalid(&at_name, message)));
            }
            if let Some(value) = &header.value {
                let path = [at_name[0], at_name[1], at_name[2], "value"];
                self.take(header_value(
                    &path,
                    &format!("the value of the header {}", header.name),
                    value,
                ));
            }
        }
    }

    /// How many headers there are.
    pub(super) fn header_count(&mut self, count: usize) {
        self.count(&["input", "headers"], count, HEADERS);
    }

    /// Prices that can be counted with exactly.
    pub(super) fn pricing(&mut self, pricing: &Pricing) {
        for (field, price) in [
            ("inputPerMillion", pricing.input_per_million),
            ("outputPerMillion", pricing.output_per_million),
            ("cachedInputPerMillion", pricing.cached_input_per_million),
        ] {
            let Some(price) = price.flatten() else {
                continue;
            };
            let path = &["input", "pricing", field];
            if price < Decimal::ZERO {
                self.take::<()>(Err(Refusal::invalid(
                    path,
                    format!("{field} must not be negative, got {price}"),
                )));
            } else if price >= Decimal::from(WHOLE) || price.normalize().scale() > DECIMALS {
                let message = format!(
                    "{field} may have 12 digits before the point and {DECIMALS} after it, got {price}"
                );
                self.take::<()>(Err(Refusal::invalid(path, message)));
            }
        }
    }

    /// How many fallbacks there are.
    pub(super) fn fallback_count(&mut self, count: usize) {
        self.count(&["input", "fallbackIds"], count, FALLBACKS);
    }
}

/// A price as it is stored.
pub(super) fn price(price: Option<Decimal>) -> Option<String> {
    price.map(|mut price| {
        if price.is_zero() {
            price.set_sign_positive(true);
        }
        price.to_string()
    })
}

fn header_name(path: &[&str], name: &str) -> Result<(), Refusal> {
    let length = name.len();
    if length > HEADER_NAME {
        let message =
            format!("a header's name has {length} bytes, at most {HEADER_NAME} are allowed");
        return Err(Refusal::beyond(
            path,
            message,
            HEADER_NAME as i64,
            i64::try_from(length).unwrap_or(i64::MAX),
        ));
    }
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(Refusal::invalid(
            path,
            format!("{name:?} is not the name of a header"),
        ));
    }
    if FORBIDDEN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(Refusal::invalid(
            path,
            format!("the header {name} can't be set"),
        ));
    }
    Ok(())
}

/// What a header can carry: visible ASCII, blanks and tabs, not at its ends alone. Says nothing of the value itself.
fn header_value(path: &[&str], what: &str, value: &Secret) -> Result<(), Refusal> {
    let value = value.expose();
    let length = value.len();
    if length > HEADER_VALUE {
        let message = format!("{what} has {length} bytes, at most {HEADER_VALUE} are allowed");
        return Err(Refusal::beyond(
            path,
            message,
            HEADER_VALUE as i64,
            i64::try_from(length).unwrap_or(i64::MAX),
        ));
    }
    if value.trim().is_empty() {
        return Err(Refusal::invalid(
            path,
            format!("{what} must not be empty; null takes it off"),
        ));
    }
    if !value
        .trim()
        .bytes()
        .all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
    {
        return Err(Refusal::invalid(
            path,
            format!("{what} has characters that no header can carry"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusals(check: impl FnOnce(&mut Checks)) -> String {
        let mut checks = Checks::default();
        check(&mut checks);
        checks
            .done()
            .map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn headers() {
        let header = |name: &str, value: &str| Header {
            name: name.to_owned(),
            value: Some(Secret::new(value)),
        };
        for (given, says) in [
            (vec![header("X-Team", "a b\tc")], "fine"),
            (
                vec![Header {
                    name: "X-Gone".into(),
                    value: None,
                }],
                "fine",
            ),
            (vec![header("Host", "a")], "can't be set"),
            (vec![header("transfer-ENCODING", "a")], "can't be set"),
            (vec![header("a b", "a")], "not the name"),
            (vec![header("", "a")], "not the name"),
            (vec![header("é", "a")], "not the name"),
            (vec![header("A", "a"), header("a", "b")], "given twice"),
            (vec![header("A", " ")], "must not be empty"),
            (vec![header("A", "a\r\nB: c")], "no header can carry"),
            (vec![header("A", "ключ")], "no header can carry"),
            (
                vec![header("A", &"x".repeat(9_000))],
                "9000 bytes, at most 8192",
            ),
            (
                (0..33).map(|i| header(&format!("A{i}"), "a")).collect(),
                "33 entries, at most 32",
            ),
        ] {
            let refusals = refusals(|checks| checks.headers(&given));
            assert!(refusals.contains(says), "{given:?}: {refusals}");
        }
    }

    #[test]
    fn prices() {
        for (price, says) in [
            ("0", "fine"),
            ("0.000001", "fine"),
            ("2.500000000", "fine"),
            ("999999999999.999999", "fine"),
            ("1000000000000", "12 digits"),
            ("0.0000001", "12 digits"),
            ("-1", "negative"),
        ] {
            let pricing = Pricing {
                output_per_million: Some(Some(price.parse().unwrap())),
                ..Pricing::default()
            };
            let refusals = refusals(|checks| checks.pricing(&pricing));
            assert!(refusals.contains(says), "{price}: {refusals}");
        }
    }
}
