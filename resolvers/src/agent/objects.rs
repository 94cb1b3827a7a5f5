use std::sync::Arc;

use async_graphql::{Context, ID, Object, Result, plain};
use entities::{CommandError, Permission, UserId, agent_version};
use loaders::{
    agents::{NumberedVersionOf, SeenAgent, SeenVersion, VersionsOf},
    identity::MemberOf,
    listing::Listing,
    runs::NewestRunOf,
};

use super::{
    problem::{self, AgentProblem},
    spec::Spec,
};
use crate::{
    asking::ContextExt,
    connection::{Connection, Paging},
    conversation::{self, Conversation},
    group::Group,
    identity::User,
    model::Model,
    run::Run,
    scalars::{Cursor, DateTime, Json},
    sharing::{Access, Share, Visibility, lives_in, shares_of},
    usage::{self, UsageSummary},
};

/// Name of the list in its cursors.
const VERSIONS: &str = "agent.versions";

/// An agent as it runs: its newest published version.
#[derive(Clone)]
pub struct Agent(pub Arc<SeenAgent>);

impl Agent {
    fn spec(&self) -> Spec<'_> {
        let SeenAgent {
            version, access, ..
        } = &*self.0;
        Spec {
            spec: &version.spec,
            model: version.model_id,
            access: *access,
        }
    }
}

plain!(Agent as agent_gql {
    "id" => id, "slug" => slug, "name" => name, "description" => description, "instructions" => instructions,
    "greeting" => greeting, "starters" => starters, "temperature" => temperature, "maxOutputTokens" => max_output_tokens,
    "maxSteps" => max_steps, "visibility" => visibility, "viewerAccess" => viewer_access, "isEnabled" => is_enabled,
    "hasUnpublishedChanges" => has_unpublished_changes, "createdAt" => created_at, "updatedAt" => updated_at,
});

/// An agent as it runs: its newest published version.
#[Object(crate = "agent_gql")]
impl Agent {
    /// Its id.
    pub async fn id(&self) -> ID {
        self.0.agent.id.into()
    }

    /// Short name, unique among the tenant's agents: `[a-z0-9-]{1,63}`.
    async fn slug(&self) -> &str {
        &self.0.agent.slug
    }

    /// Name shown to people.
    async fn name(&self) -> &str {
        &self.0.agent.name
    }

    /// What it is for, for people who choose among agents; empty where nobody said.
    async fn description(&self) -> &str {
        &self.0.agent.description
    }

    /// What it is told before each conversation. Null for those who may only use it.
    pub async fn instructions(&self) -> Option<&str> {
        self.spec().instructions()
    }

    /// What it says before anybody else does; null: nothing.
    pub async fn greeting(&self) -> Option<&str> {
        self.spec().greeting()
    }

    /// What a person may begin with, in the order in which they are shown.
    pub async fn starters(&self) -> &[String] {
        self.spec().starters()
    }

    /// What it speaks through; null: the tenant's default, or one that the viewer may not see.
    pub async fn model(&self, ctx: &Context<'_>) -> Result<Option<Model>> {
        self.spec().model(ctx).await
    }

    /// How freely it chooses words, from 0 to 2; null: as the provider does. Null for those who may only use it.
    pub async fn temperature(&self) -> Option<f64> {
        self.spec().temperature()
    }

    /// The most tokens of one answer; null: as the model allows. Null for those who may only use it.
    pub async fn max_output_tokens(&self) -> Option<i32> {
        self.spec().max_output_tokens()
    }

    /// Calls of the model in one run, from 1 to 100, before it is asked to conclude.
    pub async fn max_steps(&self) -> i32 {
        self.spec().max_steps()
    }

    /// Who sees it.
    pub async fn visibility(&self) -> Visibility {
        self.0.agent.visibility.into()
    }

    /// How far the viewer may go with it. Changing it also takes the permission AGENTS_EDIT.
    pub async fn viewer_access(&self) -> Access {
        self.0.access.into()
    }

    /// Where it lives; null: it is its owner's own, or lives in a group that the viewer may not see.
    pub async fn group(&self, ctx: &Context<'_>) -> Result<Option<Group>> {
        lives_in(ctx, self.0.agent.group_id).await
    }

    /// With whom it is shared, the first share first; null for those who may not share it.
    pub async fn shares(&self, ctx: &Context<'_>) -> Result<Option<Vec<Share>>> {
        shares_of(ctx, self.0.agent.id.0, self.0.access).await
    }

    /// Who made it.
    async fn owner(&self, ctx: &Context<'_>) -> Result<User> {
        member(ctx, self.0.agent.owner_id).await
    }

    /// Whether new runs may use it.
    async fn is_enabled(&self) -> bool {
        self.0.agent.is_enabled
    }

    /// Why it cannot run as configured; empty when it can.
    async fn problems(&self, ctx: &Context<'_>) -> Result<Vec<AgentProblem>> {
        problem::problems(ctx, self.0.version.model_id).await
    }

    /// What the next version will be; null for those who may not change it.
    async fn draft(&self, ctx: &Context<'_>) -> Result<Option<AgentDraft>> {
        let may =
            self.0.access >= entities::Access::Edit && ctx.scope()?.may(Permission::AgentsEdit);
        Ok(may.then(|| AgentDraft(self.0.clone())))
    }

    /// Whether the draft is different from the newest version.
    async fn has_unpublished_changes(&self) -> bool {
        let SeenAgent { agent, version, .. } = &*self.0;
        agent.draft != version.spec || agent.draft_model_id != version.model_id
    }

    /// The newest published version: what new runs take.
    async fn version(&self) -> AgentVersion {
        AgentVersion {
            row: self.0.version.clone(),
            access: self.0.access,
        }
    }

    /// Its versions, newest first; null for those who may only use it.
    async fn versions(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "How many at most, from the beginning of the list or from `after` on: 20 where neither this nor `last` is \
                    given. From 0 to `ServiceLimits.maxPageSize`, which is 100 unless set otherwise."
        )]
        first: Option<i32>,
        #[graphql(
            desc = "Only what stands after this place: a cursor of this list in this order, such as the `endCursor` of the \
                    page before."
        )]
        after: Option<Cursor>,
        #[graphql(
            desc = "How many at most, from the end of the list or from `before` back; they come in the list's order all the \
                    same. As many as `first` may be, and not together with it."
        )]
        last: Option<i32>,
        #[graphql(
            desc = "Only what stands before this place: a cursor of this list in this order, such as the `startCursor` of the \
                    page after."
        )]
        before: Option<Cursor>,
    ) -> Result<Option<Connection<AgentVersion>>> {
        let (id, access) = (self.0.agent.id, self.0.access);
        if access < entities::Access::Read {
            return Ok(None);
        }
        let page = Paging {
            first,
            after,
            last,
            before,
        }
        .read::<(i64,)>(ctx, VERSIONS)?;
        let found = ctx
            .reader()
            .load(VersionsOf {
                agent: id,
                listing: Listing::new(page, ()),
            })
            .await?;
        let Some(rows) = found else {
            return Ok(Some(Connection::empty()));
        };
        let version = |row| AgentVersion { row, access };
        let versions = Connection::new(
            VERSIONS,
            (*rows).clone(),
            |row| (i64::from(row.number),),
            version,
        );
        let reader = ctx.reader().clone();
        Ok(Some(versions.counted(move || {
            let reader = reader.clone();
            async move { reader.count_versions(id).await }
        })))
    }

    /// Runs, tokens, cost and latency of this agent, everybody's together; null for those who may neither read the tenant's
    /// usage nor manage the agent.
    async fn usage(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "From this hour on; left out: 30 days before `until`.")] since: Option<
            DateTime,
        >,
        #[graphql(desc = "Hours that begin before this time; left out: now.")] until: Option<
            DateTime,
        >,
    ) -> Result<Option<UsageSummary>> {
        let scope = ctx.scope()?;
        let manages =
            self.0.access >= entities::Access::Manage && scope.may(Permission::AgentsEdit);
        let may = manages || scope.may(Permission::UsageRead);
        if !may {
            return Ok(None);
        }
        usage::between(ctx, self.0.agent.id.0, since, until)
            .await
            .map(Some)
    }

    /// The viewer's conversations in which it answers, most recently active first.
    async fn conversations(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "How many at most, from the beginning of the list or from `after` on: 20 where neither this nor `last` is \
                    given. From 0 to `ServiceLimits.maxPageSize`, which is 100 unless set otherwise."
        )]
        first: Option<i32>,
        #[graphql(
            desc = "Only what stands after this place: a cursor of this list in this order, such as the `endCursor` of the \
                    page before."
        )]
        after: Option<Cursor>,
        #[graphql(
            desc = "How many at most, from the end of the list or from `before` back; they come in the list's order all the \
                    same. As many as `first` may be, and not together with it."
        )]
        last: Option<i32>,
        #[graphql(
            desc = "Only what stands before this place: a cursor of this list in this order, such as the `startCursor` of the \
                    page after."
        )]
        before: Option<Cursor>,
    ) -> Result<Connection<Conversation>> {
        let paging = Paging {
            first,
            after,
            last,
            before,
        };
        conversation::with_agent(ctx, self.0.agent.id, paging).await
    }

    /// The viewer's newest run of it; null: none yet.
    async fn last_run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
        Ok(ctx
            .reader()
            .load(NewestRunOf(self.0.agent.id))
            .await?
            .map(Run::from))
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime {
        self.0.agent.created_at.into()
    }

    /// When the agent, its draft or its newest version last changed.
    async fn updated_at(&self) -> DateTime {
        self.0.agent.updated_at.into()
    }
}

async fn member(ctx: &Context<'_>, id: UserId) -> Result<User> {
    let found = ctx.reader().load(MemberOf(id)).await?;
    found
        .map(User)
        .ok_or_else(|| CommandError::Internal(format!("{id} was never a member")).into())
}

/// What the next version of an agent will be.
pub struct AgentDraft(Arc<SeenAgent>);

impl AgentDraft {
    fn spec(&self) -> Spec<'_> {
        let SeenAgent { agent, access, .. } = &*self.0;
        Spec {
            spec: &agent.draft,
            model: agent.draft_model_id,
            access: *access,
        }
    }
}

/// What the next version of an agent will be.
#[Object]
impl AgentDraft {
    /// What it will be told before each conversation.
    pub async fn instructions(&self) -> Option<&str> {
        self.spec().instructions()
    }

    /// What it will say before anybody else does; null: nothing.
    pub async fn greeting(&self) -> Option<&str> {
        self.spec().greeting()
    }

    /// What a person may begin with, in the order in which they are shown.
    pub async fn starters(&self) -> &[String] {
        self.spec().starters()
    }

    /// What it will speak through; null: the tenant's default, or one that the viewer may not see.
    pub async fn model(&self, ctx: &Context<'_>) -> Result<Option<Model>> {
        self.spec().model(ctx).await
    }

    /// How freely it will choose words, from 0 to 2; null: as the provider does.
    pub async fn temperature(&self) -> Option<f64> {
        self.spec().temperature()
    }

    /// The most tokens of one answer; null: as the model allows.
    pub async fn max_output_tokens(&self) -> Option<i32> {
        self.spec().max_output_tokens()
    }

    /// Calls of the model in one run, from 1 to 100, before it is asked to conclude.
    pub async fn max_steps(&self) -> i32 {
        self.spec().max_steps()
    }

    /// When the draft last changed.
    async fn updated_at(&self) -> DateTime {
        self.0.agent.draft_updated_at.into()
    }
}

/// A published version of an agent. It never changes.
#[derive(Clone)]
pub struct AgentVersion {
    row: Arc<agent_version::Model>,
    /// How far whoever asks may go with its agent.
    access: entities::Access,
}

impl AgentVersion {
    /// As it was read.
    #[must_use]
    pub fn of(seen: &SeenVersion) -> Self {
        Self {
            row: seen.version.clone(),
            access: seen.access,
        }
    }

    fn spec(&self) -> Spec<'_> {
        Spec {
            spec: &self.row.spec,
            model: self.row.model_id,
            access: self.access,
        }
    }
}

/// A published version of an agent. It never changes.
#[Object]
impl AgentVersion {
    /// Its id.
    pub async fn id(&self) -> ID {
        self.row.id.into()
    }

    /// Its number, counted from 1 for each agent.
    async fn number(&self) -> i32 {
        self.row.number
    }

    /// What whoever published it called it; null: nothing.
    async fn name(&self) -> Option<&str> {
        self.row.name.as_deref()
    }

    /// What changed, in the words of whoever published it. Null for those who may only use the agent.
    async fn notes(&self) -> Option<&str> {
        self.row
            .notes
            .as_deref()
            .filter(|_| self.access >= entities::Access::Read)
    }

    /// Who published it.
    async fn published_by(&self, ctx: &Context<'_>) -> Result<User> {
        member(ctx, self.row.published_by).await
    }

    /// When it was published.
    async fn published_at(&self) -> DateTime {
        self.row.published_at.into()
    }

    /// What changed against another version of the same agent, as a JSON Patch (RFC 6902) of the specification: `instructions`,
    /// `greeting`, `starters`, `modelId`, `temperature`, `maxOutputTokens`, `maxSteps`. Null where there is no such version, and
    /// for those who may only use the agent.
    async fn diff(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of the version to start from.")] against: i32,
    ) -> Result<Option<Json>> {
        if self.access < entities::Access::Read {
            return Ok(None);
        }
        let key = NumberedVersionOf {
            agent: self.row.agent_id,
            number: against,
        };
        let from = ctx.reader().load(key).await?;
        Ok(from.map(|from| Json(engine::agents::diff(&from, &self.row))))
    }

    /// What the agent is told before each conversation. Null for those who may only use it.
    pub async fn instructions(&self) -> Option<&str> {
        self.spec().instructions()
    }

    /// What the agent says before anybody else does; null: nothing.
    pub async fn greeting(&self) -> Option<&str> {
        self.spec().greeting()
    }

    /// What a person may begin with, in the order in which they are shown.
    pub async fn starters(&self) -> &[String] {
        self.spec().starters()
    }

    /// What the agent speaks through; null: the tenant's default, or one that the viewer may not see.
    pub async fn model(&self, ctx: &Context<'_>) -> Result<Option<Model>> {
        self.spec().model(ctx).await
    }

    /// How freely it chooses words, from 0 to 2; null: as the provider does. Null for those who may only use the agent.
    pub async fn temperature(&self) -> Option<f64> {
        self.spec().temperature()
    }

    /// The most tokens of one answer; null: as the model allows. Null for those who may only use the agent.
    pub async fn max_output_tokens(&self) -> Option<i32> {
        self.spec().max_output_tokens()
    }

    /// Calls of the model in one run, from 1 to 100, before it is asked to conclude.
    pub async fn max_steps(&self) -> i32 {
        self.spec().max_steps()
    }
}
