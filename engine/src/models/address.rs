use adapters::outbound::{Outbound, Reach};
use entities::{ModelProvider, Refusal};
use url::Url;

const PATH: &[&str] = &["input", "baseUrl"];
/// Characters of an address.
const LENGTH: usize = 2_000;

/// What the provider is called where it has no address of its own, so that one must be given.
pub(super) fn needed_by(provider: ModelProvider) -> Option<&'static str> {
    match provider {
        ModelProvider::OpenAiCompatible => Some("OPENAI_COMPATIBLE"),
        ModelProvider::AzureOpenAi => Some("AZURE_OPENAI"),
        // its usual one is this machine, which is reached only where the operator allows it
        ModelProvider::Ollama => Some("OLLAMA"),
        ModelProvider::OpenAi
        | ModelProvider::Anthropic
        | ModelProvider::Gemini
        | ModelProvider::Builtin => None,
    }
}

/// That there is none for a provider that needs one.
pub(super) fn missing(provider: ModelProvider) -> Result<(), Refusal> {
    match needed_by(provider) {
        Some(name) => Err(Refusal::invalid(
            PATH,
            format!("baseUrl is needed by {name}"),
        )),
        None => Ok(()),
    }
}

/// An address as it may be stored: http or https, without user, query and fragment, and not one that is refused. Azure's may
/// have the version of its wire as a query.
pub(super) fn check(
    outbound: &Outbound,
    provider: ModelProvider,
    given: &str,
) -> Result<Url, Refusal> {
    entities::input::filled(PATH, given, LENGTH)?;
    let invalid = |message: &str| Refusal::invalid(PATH, message);
    let url = Url::parse(given.trim())
        .map_err(|_| invalid("baseUrl must be a URL, like https://api.example.com/v1"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("baseUrl must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid(
            "baseUrl must not hold a user or password; give an API key or headers",
        ));
    }
    let is_version = || url.query_pairs().all(|(name, _)| name == "api-version");
    if url.query().is_some() && provider == ModelProvider::AzureOpenAi && !is_version() {
        return Err(invalid(
            "baseUrl must not have a query other than api-version",
        ));
    }
    if (url.query().is_some() && provider != ModelProvider::AzureOpenAi) || url.fragment().is_some()
    {
        return Err(invalid("baseUrl must not have a query or a fragment"));
    }
    outbound.check(Reach::Managed, &url).map_err(|refused| {
        tracing::debug!(reason = ?refused.reason(), "an address of a model was refused");
        invalid("address not allowed")
    })?;
    Ok(url)
}

/// Where a model's secrets go, as `scheme://host:port`; `None` for one that is called nowhere.
pub(super) fn origin(provider: ModelProvider, base_url: Option<&str>) -> Option<String> {
    let url = match (base_url, provider) {
        (Some(url), _) => Url::parse(url).ok()?,
        (None, ModelProvider::OpenAi) => return Some("https://api.openai.com:443".to_owned()),
        (None, ModelProvider::Anthropic) => {
            return Some("https://api.anthropic.com:443".to_owned());
        }
        (None, ModelProvider::Gemini) => {
            return Some("https://generativelanguage.googleapis.com:443".to_owned());
        }
        (None, _) => return None,
    };
    let (host, port) = (url.host_str()?, url.port_or_known_default()?);
    Some(format!("{}://{host}:{port}", url.scheme()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use adapters::outbound::OutboundConfig;

    #[test]
    fn addresses() {
        use ModelProvider::{AzureOpenAi, Gemini, Ollama, OpenAi, OpenAiCompatible};
        let outbound = Outbound::new(OutboundConfig {
            allow: vec!["127.0.0.1/32".parse().unwrap()],
            ..OutboundConfig::default()
        })
        .unwrap();
        for good in [
            "https://api.example.com/v1",
            " http://127.0.0.1:1234 ",
            "https://8.8.8.8/",
        ] {
            assert!(check(&outbound, OpenAi, good).is_ok(), "{good}");
        }
        assert!(
            check(
                &outbound,
                AzureOpenAi,
                "https://8.8.8.8/?api-version=2024-10-21"
            )
            .is_ok()
        );
        for (bad, says) in [
            ("", "empty"),
            ("example.com", "must be a URL"),
            ("ftp://example.com", "http://"),
            ("https://a:b@example.com", "user or password"),
            ("https://a@example.com", "user or password"),
            ("https://example.com?k=v", "query"),
            ("https://example.com/#f", "fragment"),
            ("http://10.0.0.1/", "address not allowed"),
            ("http://169.254.169.254/latest", "address not allowed"),
            ("http://[::1]/", "address not allowed"),
            ("http://0x0a000001/", "address not allowed"),
            ("https://example.com:22/", "address not allowed"),
        ] {
            for provider in [OpenAiCompatible, AzureOpenAi, Ollama, Gemini] {
                let refusal = check(&outbound, provider, bad).unwrap_err().to_string();
                assert!(refusal.contains(says), "{provider:?}, {bad}: {refusal}");
            }
        }
    }

    #[test]
    fn origins() {
        use ModelProvider::{Anthropic, Builtin, Gemini, Ollama, OpenAi, OpenAiCompatible};
        for (provider, url, expected) in [
            (OpenAi, None, Some("https://api.openai.com:443")),
            (Anthropic, None, Some("https://api.anthropic.com:443")),
            (
                Gemini,
                None,
                Some("https://generativelanguage.googleapis.com:443"),
            ),
            (Ollama, None, None),
            (Builtin, None, None),
            (
                OpenAiCompatible,
                Some("HTTPS://Example.COM/v1"),
                Some("https://example.com:443"),
            ),
            (
                OpenAi,
                Some("http://[2001:db8::1]:8080/"),
                Some("http://[2001:db8::1]:8080"),
            ),
        ] {
            assert_eq!(origin(provider, url).as_deref(), expected, "{url:?}");
        }
    }
}
