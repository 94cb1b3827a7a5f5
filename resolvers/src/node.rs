//! Things that have an id, found by it. A type that has one says here how it is found.

use async_graphql::{Context, ID, Interface, Object, Result, plain_abstract};
use entities::{
    Access, AgentId, AgentVersionId, ApiKeyId, AuditEntryId, ConversationId, GroupId,
    GroupMemberId, IdentityId, InvitationId, MembershipId, MessageId, ModelId, Refusal, RunId,
    SessionId, TenantId, ToolCallId, UserId, ids,
};
use loaders::{
    LoadError,
    agents::{AgentOf, VersionOf},
    audit::AuditEntryOf,
    conversations::ConversationOf,
    groups::{GroupMemberOf, GroupOf},
    identity::{ApiKeyOf, BelongingOf, IdentityOf, MemberOf, SessionOf, TenantOf},
    messages::MessageOf,
    models::ModelOf,
    runs::{RunOf, ToolCallOf},
    tenancy::InvitationOf,
};
use uuid::Uuid;

use crate::{
    agent::{Agent, AgentVersion},
    asking::ContextExt,
    audit::AuditEntry,
    conversation::Conversation,
    group::{Group, GroupMember},
    identity::{ApiKey, Identity, Membership, Session, User},
    message::Message,
    model::Model,
    run::{Run, ToolCall},
    tenant::{Invitation, Tenant},
};

/// Something that has an id.
#[derive(Interface)]
#[graphql(
    crate = "node_gql",
    field(
        name = "id",
        ty = "ID",
        desc = "Its id: opaque, and the same for ever."
    )
)]
pub enum Node {
    /// A tenant.
    Tenant(Tenant),
    /// A user.
    User(User),
    /// A membership.
    Membership(Membership),
    /// A session.
    Session(Session),
    /// An account at an OpenID provider.
    Identity(Identity),
    /// An API key.
    ApiKey(ApiKey),
    /// A model.
    Model(Model),
    /// An agent.
    Agent(Agent),
    /// A version of an agent.
    AgentVersion(AgentVersion),
    /// A conversation.
    Conversation(Conversation),
    /// A message.
    Message(Message),
    /// A run.
    Run(Run),
    /// A tool call.
    ToolCall(ToolCall),
    /// A group.
    Group(Group),
    /// A member of a group.
    GroupMember(GroupMember),
    /// An invitation.
    Invitation(Invitation),
    /// An entry of the audit log.
    AuditEntry(AuditEntry),
}

plain_abstract!(Node as node_gql {
    Tenant, User, Membership, Session, Identity, ApiKey, Model, Agent, AgentVersion, Conversation, Message, Run, ToolCall,
    Group, GroupMember, Invitation, AuditEntry,
});

/// Finds by the prefix of an id and its number what whoever asks may see. Side by side, what is of one type is one statement.
///
/// # Errors
/// It could not be read.
pub async fn find(ctx: &Context<'_>, prefix: &str, id: Uuid) -> Result<Option<Node>, LoadError> {
    let reader = ctx.reader();
    Ok(match prefix {
        TenantId::PREFIX => reader
            .load(TenantOf(TenantId(id)))
            .await?
            .map(|row| Node::Tenant(Tenant(row))),
        UserId::PREFIX => reader
            .load(MemberOf(UserId(id)))
            .await?
            .map(|row| Node::User(User(row))),
        MembershipId::PREFIX => reader
            .load(BelongingOf(MembershipId(id)))
            .await?
            .map(|row| Node::Membership(Membership(row))),
        SessionId::PREFIX => reader
            .load(SessionOf(SessionId(id)))
            .await?
            .filter(|row| row.is_good(ctx.clock().now()))
            .map(|row| Node::Session(Session(row))),
        IdentityId::PREFIX => reader
            .load(IdentityOf(IdentityId(id)))
            .await?
            .map(|row| Node::Identity(Identity(row))),
        ApiKeyId::PREFIX => reader
            .load(ApiKeyOf(ApiKeyId(id)))
            .await?
            .map(|row| Node::ApiKey(ApiKey(row))),
        ModelId::PREFIX => reader
            .load(ModelOf(ModelId(id)))
            .await?
            .filter(|seen| seen.is_there())
            .map(|seen| Node::Model(Model(seen))),
        AgentId::PREFIX => reader
            .load(AgentOf(AgentId(id)))
            .await?
            .filter(|seen| seen.is_there())
            .map(|seen| Node::Agent(Agent(seen))),
        AgentVersionId::PREFIX => reader
            .load(VersionOf(AgentVersionId(id)))
            .await?
            // With USE alone nobody sees an agent's versions, the one in force aside.
            .filter(|seen| seen.is_newest || seen.access >= Access::Read)
            .map(|seen| Node::AgentVersion(AgentVersion::of(&seen))),
        ConversationId::PREFIX => reader
            .load(ConversationOf(ConversationId(id)))
            .await?
            .map(|row| Node::Conversation(Conversation::from(row))),
        MessageId::PREFIX => reader
            .load(MessageOf(MessageId(id)))
            .await?
            .map(|row| Node::Message(Message::from(row))),
        RunId::PREFIX => reader
            .load(RunOf(RunId(id)))
            .await?
            .map(|row| Node::Run(Run::from(row))),
        ToolCallId::PREFIX => reader
            .load(ToolCallOf(ToolCallId(id)))
            .await?
            .map(|call| Node::ToolCall(ToolCall(call))),
        GroupId::PREFIX => reader
            .load(GroupOf(GroupId(id)))
            .await?
            .map(|row| Node::Group(Group(row))),
        GroupMemberId::PREFIX => reader
            .load(GroupMemberOf(GroupMemberId(id)))
            .await?
            .map(|row| Node::GroupMember(GroupMember::from(row))),
        InvitationId::PREFIX => reader
            .load(InvitationOf(InvitationId(id)))
            .await?
            .map(|row| Node::Invitation(Invitation(row))),
        AuditEntryId::PREFIX => reader
            .load(AuditEntryOf(AuditEntryId(id)))
            .await?
            .map(|row| Node::AuditEntry(AuditEntry(row))),
        _ => None,
    })
}

/// The most ids of one `nodes`.
const MOST: usize = 100;

/// Finding by id.
#[derive(Default)]
pub struct NodeQuery;

#[Object]
impl NodeQuery {
    /// What has this id; null where there is nothing, or nothing that the viewer may see.
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of anything that is a `Node`.")] id: ID,
    ) -> Result<Option<Node>> {
        ctx.scope()?;
        match ids::parse(&id) {
            Some((prefix, id)) => Ok(find(ctx, prefix, id).await?),
            None => Ok(None),
        }
    }

    /// What has these ids, in their order, with null for each that there is nothing of, or nothing that the viewer may see.
    async fn nodes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Ids of anything that is a `Node`, 100 at most.")] ids: Vec<ID>,
    ) -> Result<Vec<Option<Node>>> {
        ctx.scope()?;
        if ids.len() > MOST {
            let given = i64::try_from(ids.len()).unwrap_or(i64::MAX);
            return Err(Refusal::beyond(
                &["ids"],
                format!("`ids` must hold {MOST} at most, got {given}"),
                100,
                given,
            )
            .into());
        }
        let found = ids.iter().map(|id| async move {
            match ids::parse(id) {
                Some((prefix, id)) => find(ctx, prefix, id).await,
                None => Ok(None),
            }
        });
        Ok(futures_util::future::try_join_all(found).await?)
    }
}
