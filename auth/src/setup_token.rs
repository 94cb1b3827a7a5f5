//! Who may set the installation up: whoever stands at the machine, or knows the token that its operator reads.

use adapters::sealing::Secret;

use crate::{Authority, RequestContext, base62};

impl RequestContext {
    /// Whether the request can only have come from somebody at the machine itself, so that no token is asked for. Each condition
    /// closes a way in from elsewhere: another listener, a proxy in front (said, or seen by its headers), a page of another site.
    #[must_use]
    pub fn is_at_the_machine(&self) -> bool {
        self.listener_loopback
            && self.peer_loopback
            && !self.forwarded
            && self.origin_ours_or_absent
            && !self.public_url_or_proxies_set
    }
}

impl Authority {
    /// The token that `set_up` asks for: the configured one, or one that follows from the secret key.
    #[must_use]
    pub fn setup_token(&self) -> Secret {
        match &self.0.config.setup_token {
            Some(token) => token.clone(),
            None => Secret::new(base62::encode(&self.0.keyring.derive("setup"))),
        }
    }

    /// Whether `given` opens the set-up for this request. The token is compared in constant time.
    pub(crate) fn may_set_up(&self, given: Option<&Secret>, context: &RequestContext) -> bool {
        context.is_at_the_machine() || given.is_some_and(|given| *given == self.setup_token())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_machine_only_where_all_holds() {
        let all = RequestContext {
            listener_loopback: true,
            peer_loopback: true,
            forwarded: false,
            origin_ours_or_absent: true,
            public_url_or_proxies_set: false,
            address: None,
            user_agent: None,
        };
        assert!(all.is_at_the_machine());
        for one_wrong in [
            RequestContext {
                listener_loopback: false,
                ..all.clone()
            },
            RequestContext {
                peer_loopback: false,
                ..all.clone()
            },
            RequestContext {
                forwarded: true,
                ..all.clone()
            },
            RequestContext {
                origin_ours_or_absent: false,
                ..all.clone()
            },
            RequestContext {
                public_url_or_proxies_set: true,
                ..all.clone()
            },
            RequestContext::default(),
        ] {
            assert!(!one_wrong.is_at_the_machine(), "{one_wrong:?}");
        }
    }
}
