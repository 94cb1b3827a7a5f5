//! Ids of things, one Rust type each, written for clients as `prefix_…`.
//!
//! The text is the TypeID form (<https://github.com/jetify-com/typeid>): a prefix, an underscore, and the 128 bits of a UUIDv7 in
//! 26 characters of Crockford's base32 in lower case, most significant bits first. In the database they are UUIDs.

use std::{fmt, str::FromStr};

use sea_orm::{DbErr, DeriveValueType, TryFromU64};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Why a text is no id of the kind that was expected. To a client it is the same as an id of nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the form {expected}_…")]
pub struct IdError {
    /// The prefix that was expected, without the underscore.
    pub expected: &'static str,
}

/// Writes an id as `prefix_…`.
pub fn write(prefix: &str, id: Uuid, out: &mut impl fmt::Write) -> fmt::Result {
    let bits = id.as_u128();
    out.write_str(prefix)?;
    out.write_char('_')?;
    for place in (0..26).rev() {
        out.write_char(char::from(ALPHABET[(bits >> (place * 5)) as usize & 31]))?;
    }
    Ok(())
}

/// Splits `prefix_…` into its prefix and UUID; `None` where the text is not of that form.
#[must_use]
pub fn parse(text: &str) -> Option<(&str, Uuid)> {
    let (prefix, digits) = text.rsplit_once('_')?;
    if digits.len() != 26 || digits.as_bytes()[0] > b'7' {
        return None;
    }
    let bits = digits.bytes().try_fold(0u128, |bits, byte| {
        let value = ALPHABET.iter().position(|&letter| letter == byte)?;
        Some(bits << 5 | value as u128)
    })?;
    Some((prefix, Uuid::from_u128(bits)))
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, DeriveValueType)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// What stands before the underscore.
            pub const PREFIX: &'static str = $prefix;
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write(Self::PREFIX, self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                match parse(text) {
                    Some((Self::PREFIX, id)) => Ok(Self(id)),
                    _ => Err(IdError { expected: Self::PREFIX }),
                }
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, DbErr> {
                Err(DbErr::ConvertFromU64(stringify!($name)))
            }
        }
    )*};
}

ids! {
    /// A tenant.
    TenantId = "tenant";
    /// An account: a person, or that of a service key.
    UserId = "user";
    /// That a user belongs to a tenant.
    MembershipId = "membership";
    /// A sign-in that lasts.
    SessionId = "session";
    /// An API key.
    ApiKeyId = "key";
    /// A model at a provider.
    ModelId = "model";
    /// Sealed values of one resource. Never shown.
    SecretId = "secret";
    /// An agent.
    AgentId = "agent";
    /// A published version of an agent.
    AgentVersionId = "version";
    /// A conversation, and the stream of its events.
    ConversationId = "conversation";
    /// A message.
    MessageId = "message";
    /// A run of an agent.
    RunId = "run";
    /// A call of a tool, asked for by a model.
    ToolCallId = "call";
    /// A group of a tenant.
    GroupId = "group";
    /// That a user belongs to a group.
    GroupMemberId = "groupmember";
    /// That a resource is shared. Never shown.
    ShareId = "share";
    /// An invitation into a tenant.
    InvitationId = "invitation";
    /// An account at an OpenID provider, bound to a user.
    IdentityId = "identity";
    /// An entry of the audit log.
    AuditEntryId = "audit";
    /// A process that carries runs. Never shown.
    WorkerId = "worker";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for bits in [0, 1, u128::MAX, 0x0193_5f1e_8a7b_7c3d_9e4f_5a6b_7c8d_9e0f] {
            let id = AgentId(Uuid::from_u128(bits));
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        // the example of the TypeID specification
        let id = UserId("01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap());
        assert_eq!(id.to_string(), "user_01h455vb4pex5vsknk084sn02q");
    }

    #[test]
    fn what_is_no_id() {
        for text in [
            "",
            "agent",
            "agent_",
            "user_01h455vb4pex5vsknk084sn02q",
            "agent_81h455vb4pex5vsknk084sn02q",
            "agent_01h455vb4pex5vsknk084sn02Q",
            "agent_01h455vb4pex5vsknk084sn02é",
        ] {
            assert_eq!(
                text.parse::<AgentId>(),
                Err(IdError { expected: "agent" }),
                "{text}"
            );
        }
    }
}
