//! Tokens without a document: the same commands as the mutations of that name, under the same limits.

use adapters::sealing;
use auth::{Refresh, SignIn, SignedIn};
use entities::{CommandError, Refusal};
use resolvers::errors::codes;
use serde_json::Value;

use super::{AppGraph, refused};
use crate::{
    budget::Payer,
    config::Secret,
    edge::{Client, Grant, Granted, Issuer, Refused, counted_as},
};

/// What a grant takes from the bucket of its address: a mutation that asks for what it answers is in that order.
const COST: u64 = 10;

impl Issuer for AppGraph {
    async fn grant(&self, grant: Grant, client: Client) -> Result<Granted, Refused> {
        self.till
            .take(Payer::Address(counted_as(client.address)), COST)?;
        let context = self.request_context(client);
        let address = context.address;
        let secret = |given: &Secret| sealing::Secret::new(given.expose());
        let (action, signed_in) = match grant {
            Grant::Password {
                username,
                password,
                tenant,
            } => {
                let given = SignIn {
                    email: username,
                    password: secret(&password),
                    tenant,
                };
                ("signIn", self.authority.sign_in(given, context).await)
            }
            Grant::RefreshToken {
                refresh_token,
                tenant,
            } => {
                let given = Refresh {
                    refresh_token: secret(&refresh_token),
                    tenant,
                };
                let pair = self.authority.refresh_session(given, context).await;
                ("refreshSession", pair)
            }
        };
        // The same in the audit log, whichever way it came; nobody is known here, whatever stands in a header.
        if let Err(error) = &signed_in
            && !codes(error).is_empty()
        {
            self.authority.refused_nobody(action, address);
        }
        let SignedIn {
            access_token,
            refresh_token,
            lasts,
            ..
        } = signed_in.map_err(denied)?;
        Ok(Granted {
            access_token: Secret::new(access_token.expose()),
            lasts: lasts.to_std().unwrap_or_default(),
            refresh_token: Secret::new(refresh_token.expose()),
        })
    }

    async fn keys(&self) -> Result<Value, Refused> {
        self.authority.jwks().await.map_err(refused)
    }
}

/// Refusals of the input name the parameter, which the mutation calls otherwise.
fn denied(error: CommandError) -> Refused {
    let CommandError::Refused(refusals) = error else {
        return refused(error);
    };
    let told = refusals.iter().map(|refusal| {
        let parameter = match refusal {
            Refusal::InvalidInput { path, .. } => path.last().map(String::as_str),
            _ => None,
        };
        match parameter {
            Some("email") => format!("username: {refusal}"),
            Some(parameter) => format!("{parameter}: {refusal}"),
            None => refusal.to_string(),
        }
    });
    Refused::invalid(told.collect::<Vec<_>>().join("; "))
}
