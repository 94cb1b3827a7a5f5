//! Two tenants with people, groups and things in them, written as rows.

use std::sync::Arc;

use adapters::{
    clock::{Clock, ManualClock, SharedClock},
    outbound::{Outbound, OutboundConfig},
    sealing::{Keyring, Secret, digest},
    tasks::Tasks,
};
use async_graphql::{
    EmptyMutation, EmptySubscription, MergedObject, Request, Schema, finish, parser::parse_query,
    tree,
};
use auth::{AuthConfig, Authority, RequestContext, SetUp};
use chrono::{DateTime, TimeDelta, Utc};
use engine::{Engine, EngineOptions};
use entities::{
    ApiKeyId, ApiKeyKind, Db, GroupId, GroupMemberId, InvitationId, MembershipId, Permissions,
    Principal, Role, Scope, SessionId, SystemScope, TenantId, Tx, UserId, UserKind, api_key,
    db::Location, group, group_ancestor, group_member, invitation, membership, tenant, user,
};
use events::{Log, LogOptions};
use loaders::{Reader, quiesce::quiesce};
use providers::Providers;
use serde_json::{Value, json};
use support::database::{Chosen, Database};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    agent::{AgentQuery, AgentSpec},
    asking::Asking,
    conversation::ConversationQuery,
    errors::describe,
    group::GroupQuery,
    model::ModelQuery,
    node::NodeQuery,
    service::ServiceLimits,
    tenant::TenantQuery,
};

#[derive(Default, MergedObject)]
pub(super) struct Query(
    TenantQuery,
    GroupQuery,
    ModelQuery,
    AgentQuery,
    ConversationQuery,
    NodeQuery,
);

pub(super) const SYSTEM: SystemScope = SystemScope::of("tests");

/// Ada owns Looms and looks after the installation.
pub(super) struct House {
    schema: Schema<Query, EmptyMutation, EmptySubscription>,
    pub(super) db: Db,
    pub(super) ada: Scope,
    pub(super) clock: Arc<ManualClock>,
    _database: Option<Database>,
    _folder: TempDir,
}

pub(super) fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

impl House {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (location, database) = match Chosen::from_environment() {
            Chosen::Sqlite => (Location::Sqlite(folder.path().join("weft.db")), None),
            Chosen::Postgres(cluster) => {
                let database = Database::create(&cluster).await.unwrap();
                let url = database.url().to_owned();
                (Location::Postgres(url), Some(database))
            }
        };
        let db = Db::connect(&location).await.unwrap();
        migration::migrate(db.owner(SYSTEM)).await.unwrap();
        let clock = Arc::new(ManualClock::new(
            DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        ));
        let shared: SharedClock = clock.clone();
        let tasks = Tasks::new();
        let options = LogOptions::default();
        let log = Log::start(db.clone(), shared.clone(), tasks.clone(), options)
            .await
            .unwrap();
        let keyring = Keyring::new([1; 32], None);
        let outbound = Outbound::new(OutboundConfig::default()).unwrap();
        let providers = Providers::new(outbound.clone(), shared.clone());
        let config = AuthConfig {
            issuer: "weft:tests".into(),
            setup_token: None,
            audit_kept: TimeDelta::days(365),
            signing_key_lasts: TimeDelta::days(90),
            oidc: None,
        };
        let authority = Authority::new(
            db.clone(),
            log.clone(),
            keyring.clone(),
            shared,
            &tasks,
            config,
        );
        let first = SetUp {
            email: "ada@example.com".into(),
            password: Secret::new("weaving-at-night"),
            name: "Ada".into(),
            tenant_name: "Looms".into(),
            token: None,
        };
        let at_the_machine = RequestContext {
            listener_loopback: true,
            peer_loopback: true,
            origin_ours_or_absent: true,
            ..RequestContext::default()
        };
        let signed_in = authority
            .set_up(first, at_the_machine, |_, _| Box::pin(async { Ok(()) }))
            .await
            .unwrap();
        let engine = Engine::new(
            log,
            keyring,
            providers,
            outbound,
            authority.clone(),
            EngineOptions::default(),
        );
        let schema = Schema::build(Query::default(), EmptyMutation, EmptySubscription)
            .register_output_type::<AgentSpec>()
            .data(engine)
            .data(authority)
            .data(limits())
            .finish();
        Self {
            schema,
            db,
            ada: signed_in.identity.scope().clone(),
            clock,
            _database: database,
            _folder: folder,
        }
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub(super) async fn write<T>(&self, work: impl AsyncFnOnce(&Tx) -> T) -> T {
        let tx = self
            .db
            .begin(entities::Within::Owner(SYSTEM))
            .await
            .unwrap();
        let value = work(&tx).await;
        tx.commit().await.unwrap();
        value
    }

    /// Another tenant.
    pub(super) async fn tenant(&self, number: u128, slug: &str) -> TenantId {
        let row = tenant::Model {
            id: TenantId(id(number)),
            slug: slug.into(),
            name: slug.to_uppercase(),
            currency: "EUR".into(),
            is_active: true,
            default_model_id: None,
            title_model_id: None,
            retention_days: Some(30),
            max_concurrent_runs: Some(7),
            data_key: vec![0; 60],
            served_at: self.now(),
            created_at: self.now(),
            updated_at: self.now(),
        };
        let tenant = row.id;
        self.write(async |tx| tenant::Entity::add(&**tx, row).await.unwrap())
            .await;
        tenant
    }

    /// Somebody who belongs to a tenant: `name@example.com`, numbered for his user and his membership.
    pub(super) async fn person(
        &self,
        tenant: TenantId,
        number: u128,
        name: &str,
        role: Role,
    ) -> Scope {
        let now = self.now();
        let user = user::Model {
            id: UserId(id(number)),
            kind: UserKind::Person,
            name: name.into(),
            email: Some(format!("{}@example.com", name.to_lowercase())),
            email_key: Some(format!("{}@example.com", name.to_lowercase())),
            password_hash: None,
            managed_tenant_id: None,
            is_email_proven: false,
            created_by_key_id: None,
            is_active: true,
            is_platform_administrator: false,
            last_seen_at: None,
            created_at: now,
            updated_at: now,
        };
        self.write(async |tx| user::Entity::add(&**tx, user).await.unwrap())
            .await;
        self.belongs(tenant, number, role).await
    }

    /// Lets a user belong to a tenant.
    pub(super) async fn belongs(&self, tenant: TenantId, number: u128, role: Role) -> Scope {
        let now = self.now();
        let row = membership::Model {
            id: MembershipId(Uuid::from_u128(number ^ tenant.0.as_u128())),
            tenant_id: tenant,
            user_id: UserId(id(number)),
            role,
            is_active: true,
            last_used_at: None,
            last_seen_at: None,
            ended_at: None,
            created_at: now,
            updated_at: now,
        };
        self.write(async |tx| membership::Entity::add(&**tx, row).await.unwrap())
            .await;
        scope(tenant, number, role)
    }

    /// A group within another, its number its id.
    pub(super) async fn group(&self, number: u128, name: &str, around: &[(u128, &str)]) -> GroupId {
        let (tenant_id, group_id) = (self.ada.tenant(), GroupId(id(number)));
        let names = around.iter().map(|(_, name)| *name).chain([name]);
        let row = group::Model {
            id: group_id,
            tenant_id,
            parent_id: around.last().map(|(parent, _)| GroupId(id(*parent))),
            name: name.into(),
            path: names.collect::<Vec<_>>().join("/"),
            description: format!("The group {name}"),
            created_at: self.now(),
            updated_at: self.now(),
        };
        let chain = around.iter().rev().map(|(number, _)| *number);
        let ancestors = [number].into_iter().chain(chain).enumerate();
        let ancestors: Vec<_> = ancestors
            .map(|(distance, ancestor)| group_ancestor::Model {
                tenant_id,
                group_id,
                ancestor_id: GroupId(id(ancestor)),
                distance: i32::try_from(distance).unwrap(),
            })
            .collect();
        self.write(async |tx| {
            group::Entity::add(&**tx, row).await.unwrap();
            group_ancestor::Entity::add_all(&**tx, ancestors)
                .await
                .unwrap();
        })
        .await;
        group_id
    }

    /// Makes somebody a member of a group.
    pub(super) async fn joins(
        &self,
        number: u128,
        group: GroupId,
        scope: Scope,
        role: Role,
    ) -> Scope {
        let row = group_member::Model {
            id: GroupMemberId(id(number)),
            tenant_id: scope.tenant(),
            group_id: group,
            user_id: scope.user(),
            role,
            created_at: self.now(),
            updated_at: self.now(),
        };
        self.write(async |tx| group_member::Entity::add(&**tx, row).await.unwrap())
            .await;
        let mut groups = scope.groups().to_vec();
        groups.push((group, role));
        scope.in_groups(groups.into())
    }

    pub(super) async fn invitation(&self, row: invitation::Model) {
        self.write(async |tx| invitation::Entity::add(&**tx, row).await.unwrap())
            .await;
    }

    /// An invitation into Ada's tenant by this token, open for a day.
    pub(super) fn invited(&self, number: u128, token: &str) -> invitation::Model {
        invitation::Model {
            id: InvitationId(id(number)),
            tenant_id: self.ada.tenant(),
            digest: digest(token.as_bytes()).to_vec(),
            email: None,
            email_key: None,
            role: Role::Editor,
            uses: 1,
            uses_left: 1,
            failures: 0,
            invited_by: self.ada.user(),
            by_platform: false,
            expires_at: self.now() + TimeDelta::days(1),
            revoked_at: None,
            created_at: self.now(),
        }
    }

    pub(super) async fn key(&self, number: u128, of: &Scope) {
        let row = api_key::Model {
            id: ApiKeyId(id(number)),
            tenant_id: of.tenant(),
            user_id: of.user(),
            kind: ApiKeyKind::Service,
            name: format!("key {number}"),
            prefix: "weft_sk_".into(),
            digest: digest(&number.to_be_bytes()).to_vec(),
            permissions: Permissions::of(Role::Member),
            may_impersonate: true,
            may_create_users: false,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
            created_at: self.now(),
        };
        self.write(async |tx| api_key::Entity::add(&**tx, row).await.unwrap())
            .await;
    }

    /// `data`, or the errors as code and message. `None` asks without a credential.
    pub(super) async fn asked(
        &self,
        scope: Option<&Scope>,
        document: &str,
        variables: Value,
    ) -> Result<Value, String> {
        let reader = Reader::new(&self.db, scope.cloned());
        let request = Request::new(document)
            .variables(async_graphql::Variables::from_json(variables))
            .data(Asking::new(None, RequestContext::default(), true))
            .data(reader.clone());
        let mut response = quiesce(reader.gate(), self.schema.execute(request)).await;
        response.errors.iter_mut().for_each(describe);
        let parsed = parse_query(document).unwrap();
        finish(&mut response, &parsed, None, |_, _| "");
        if response.errors.is_empty() {
            return Ok(tree(response.data).into_json().unwrap());
        }
        let told = response.errors.iter().map(|error| {
            let set = error.extensions.as_ref();
            let code = set.and_then(|set| set.get("code").cloned());
            format!("{}: {}", code.unwrap_or_default(), error.message)
        });
        Err(told.collect::<Vec<_>>().join("; "))
    }

    pub(super) async fn ask(&self, scope: &Scope, document: &str, variables: Value) -> Value {
        self.asked(Some(scope), document, variables).await.unwrap()
    }

    /// What `node` finds of these ids, by type; a dash for nothing.
    pub(super) async fn nodes(&self, scope: &Scope, ids: &[String]) -> String {
        let document = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }";
        let found = self.ask(scope, document, json!({ "ids": ids })).await;
        let nodes = found["nodes"].as_array().unwrap().iter().zip(ids);
        let named = nodes.map(|(node, id)| match node["__typename"].as_str() {
            Some(ty) => {
                assert_eq!(node["id"], json!(id));
                ty.to_owned()
            }
            None => "-".to_owned(),
        });
        named.collect::<Vec<_>>().join(" ")
    }

    /// An administrator of the platform who does not belong to the tenant.
    pub(super) fn visitor(&self, tenant: TenantId) -> Scope {
        Scope::visiting(tenant, UserId(id(99)), session())
    }
}

fn session() -> Principal {
    Principal::Session(SessionId(id(9)))
}

pub(super) fn scope(tenant: TenantId, number: u128, role: Role) -> Scope {
    Scope::new(
        tenant,
        UserId(id(number)),
        role,
        Permissions::of(role),
        session(),
    )
}

/// What a page shows, and how many there are.
pub(super) fn listed<'v>(list: &'v Value, of: impl Fn(&'v Value) -> &'v Value) -> Value {
    let nodes = list["nodes"].as_array().unwrap();
    let shown: Vec<_> = nodes.iter().map(of).collect();
    json!([shown, list["totalCount"]])
}

fn limits() -> ServiceLimits {
    ServiceLimits {
        max_depth: 15,
        max_complexity: 5_000,
        max_aliases: 30,
        max_page_size: 100,
        max_document_bytes: 32_768,
        max_request_bytes: 1 << 20,
        max_response_bytes: 1 << 25,
        query_timeout_ms: 10_000,
        mutation_timeout_ms: 30_000,
        max_subscriptions_per_connection: 50,
        max_connections_per_user: 10,
        max_message_chars: 200_000,
    }
}
