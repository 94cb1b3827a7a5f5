-- The installation itself. No tenant: sign-in and the log read these before there is one.
create table meta (
    one int primary key check (one = 1),
    installation_id {uuid} not null,
    generation {uuid} not null,
    boot_id text not null,
    clean_stop boolean not null
);
create table set_up (
    one int primary key check (one = 1),
    tenant_id {uuid} not null,
    user_id {uuid} not null,
    at {time} not null
);
create table signing_keys (
    id {uuid} primary key,
    sealed {bytes} not null,
    public {bytes} not null,
    created_at {time} not null,
    retired_at {time}
);

create table tenants (
    id {uuid} primary key,
    slug text not null unique,
    name text not null,
    currency text not null,
    is_active boolean not null,
    default_model_id {uuid},
    data_key {bytes} not null,
    served_at {time} not null,
    created_at {time} not null,
    updated_at {time} not null
);
create table users (
    id {uuid} primary key,
    kind text not null,
    name text not null,
    email text,
    email_key text,
    password_hash text,
    managed_tenant_id {uuid},
    is_active boolean not null,
    is_platform_administrator boolean not null,
    last_seen_at {time},
    created_at {time} not null,
    updated_at {time} not null
);
create unique index users_free_email on users (email_key) where managed_tenant_id is null and email_key is not null;
create unique index users_managed_email on users (managed_tenant_id, email_key) where managed_tenant_id is not null and email_key is not null;
create table memberships (
    id {uuid} primary key,
    tenant_id {uuid} not null,
    user_id {uuid} not null,
    role text not null,
    is_active boolean not null,
    last_used_at {time},
    last_seen_at {time},
    ended_at {time},
    created_at {time} not null,
    updated_at {time} not null
);
create unique index memberships_user on memberships (user_id, tenant_id);
create index memberships_tenant on memberships (tenant_id, user_id);
create table sessions (
    id {uuid} primary key,
    user_id {uuid} not null,
    tenant_id {uuid} not null,
    credential text not null,
    rotation bigint not null,
    user_agent text,
    address text,
    created_at {time} not null,
    last_seen_at {time} not null,
    expires_at {time} not null,
    ends_at {time} not null,
    ended_at {time}
);
create index sessions_user on sessions (user_id, last_seen_at);
create table api_keys (
    id {uuid} primary key,
    tenant_id {uuid} not null,
    user_id {uuid} not null,
    kind text not null,
    name text not null,
    prefix text not null,
    digest {bytes} not null unique,
    permissions {json} not null,
    may_impersonate boolean not null,
    may_create_users boolean not null,
    expires_at {time},
    revoked_at {time},
    last_used_at {time},
    created_at {time} not null
);
create index api_keys_owner on api_keys (tenant_id, user_id, created_at, id);
create table sign_in_failures (
    key {bytes} primary key,
    failures int not null,
    first_at {time} not null,
    blocked_until {time}
);
create table known_addresses (
    user_id {uuid} not null,
    address_key {bytes} not null,
    at {time} not null,
    primary key (user_id, address_key)
);

create table secrets (
    id {uuid} primary key,
    tenant_id {uuid} not null,
    bound_to text not null,
    sealed {bytes} not null
);
create table models (
    id {uuid} primary key,
    tenant_id {uuid} not null,
    owner_id {uuid} not null,
    slug text not null,
    name text not null,
    kind text not null,
    provider text not null,
    model_name text not null,
    base_url text,
    by_operator boolean not null,
    header_names {json} not null,
    has_api_key boolean not null,
    secret_id {uuid},
    context_window int,
    max_output_tokens int,
    dimensions int,
    supports_tools boolean not null,
    supports_vision boolean not null,
    supports_reasoning boolean not null,
    input_per_million text,
    output_per_million text,
    cached_input_per_million text,
    max_concurrency int,
    timeout_ms int not null,
    visibility text not null,
    health text not null,
    checked_at {time},
    latency_ms int,
    health_message text,
    created_at {time} not null,
    updated_at {time} not null,
    deleted_at {time}
);
create unique index models_slug on models (tenant_id, slug) where deleted_at is null;
create index models_name on models (tenant_id, name, id) where deleted_at is null;
create table model_fallbacks (
    tenant_id {uuid} not null,
    model_id {uuid} not null,
    position int not null,
    fallback_id {uuid} not null,
    primary key (model_id, position)
);
create index model_fallbacks_fallback on model_fallbacks (fallback_id);

create table agents (
    id {uuid} primary key,
    tenant_id {uuid} not null,
    owner_id {uuid} not null,
    slug text not null,
    name text not null,
    description text not null,
    visibility text not null,
    is_enabled boolean not null,
    draft {json} not null,
    draft_model_id {uuid},
    draft_updated_at {time} not null,
    version_id {uuid} not null,
    created_at {time} not null,
    updated_at {time} not null,
    deleted_at {time}
);
create unique index agents_slug on agents (tenant_id, slug) where deleted_at is null;
create index agents_name on agents (tenant_id, name, id) where deleted_at is null;
create index agents_updated on agents (tenant_id, updated_at, id) where deleted_at is null;
create index agents_draft_model on agents (draft_model_id) where deleted_at is null;
create table agent_versions (
    id {uuid} primary key,
    tenant_id {uuid} not null,
    agent_id {uuid} not null,
    number int not null,
    name text,
    notes text,
    spec {json} not null,
    model_id {uuid},
    published_by {uuid} not null,
    published_at {time} not null
);
create unique index agent_versions_number on agent_versions (agent_id, number);
create index agent_versions_model on agent_versions (model_id);

create table conversations (
    id {uuid} primary key,
    tenant_id {uuid} not null,
    owner_id {uuid} not null,
    agent_id {uuid},
    title text,
    title_by_person boolean not null,
    is_archived boolean not null,
    leaf_id {uuid},
    last_message_id {uuid},
    active_run_id {uuid},
    last_queue_no bigint not null,
    last_activity_at {time} not null,
    created_at {time} not null,
    updated_at {time} not null,
    deleted_at {time}
);
create index conversations_active on conversations (tenant_id, owner_id, last_activity_at, id) where deleted_at is null;
create index conversations_newest on conversations (tenant_id, owner_id, created_at, id) where deleted_at is null;
create index conversations_agent on conversations (tenant_id, agent_id, last_activity_at, id) where deleted_at is null;
create table messages (
    id {uuid} primary key,
    tenant_id {uuid} not null,
    conversation_id {uuid} not null,
    seq bigint not null,
    role text not null,
    status text not null,
    is_hidden boolean not null,
    author_id {uuid},
    agent_id {uuid},
    model_id {uuid},
    parent_id {uuid},
    run_id {uuid},
    client_id text,
    parts {json} not null,
    parts_seq bigint not null,
    usage {json},
    rating text,
    rating_comment text,
    created_at {time} not null,
    updated_at {time} not null
);
create index messages_conversation on messages (conversation_id, seq);
create index messages_parent on messages (parent_id);

create table runs (
    id {uuid} primary key,
    tenant_id {uuid} not null,
    conversation_id {uuid} not null,
    parent_run_id {uuid},
    agent_id {uuid},
    agent_version_id {uuid},
    draft {json},
    asked_model_id {uuid},
    model_id {uuid},
    status text not null,
    trigger text not null,
    user_id {uuid} not null,
    api_key_id {uuid},
    permissions {json} not null,
    queue_no bigint not null,
    input_message_id {uuid},
    output_message_id {uuid} not null,
    attempt int not null,
    losses int not null,
    losses_in_step int not null,
    owner {uuid},
    lease_until {time},
    progress_at {time},
    steps int not null,
    error {json},
    usage {json} not null,
    first_seq bigint not null,
    terminal_seq bigint,
    format int not null,
    created_at {time} not null,
    started_at {time},
    first_token_at {time},
    finished_at {time}
);
create unique index runs_one_active on runs (conversation_id) where parent_run_id is null and status in ('RUNNING', 'WAITING');
create index runs_queue on runs (conversation_id, queue_no) where status = 'QUEUED';
create index runs_queued on runs (tenant_id, queue_no) where status = 'QUEUED';
create index runs_lease on runs (lease_until) where status = 'RUNNING';
create index runs_conversation on runs (conversation_id, created_at, id);
create index runs_user on runs (tenant_id, user_id, created_at, id);
create index runs_agent on runs (tenant_id, agent_id, user_id, created_at, id);
create table run_steps (
    tenant_id {uuid} not null,
    run_id {uuid} not null,
    number int not null,
    model_id {uuid},
    answer {json} not null,
    usage {json} not null,
    latency_ms int,
    time_to_first_token_ms int,
    finish_reason text,
    started_at {time} not null,
    finished_at {time},
    primary key (run_id, number)
);
create table tool_calls (
    id {uuid} primary key,
    tenant_id {uuid} not null,
    run_id {uuid} not null,
    step int not null,
    position int not null,
    call_id text not null,
    name text not null,
    arguments {json},
    arguments_text text not null,
    result {json},
    error_message text,
    status text not null,
    started_at {time},
    finished_at {time}
);
create unique index tool_calls_place on tool_calls (run_id, step, position);
create table model_calls (
    id {uuid} primary key,
    tenant_id {uuid} not null,
    run_id {uuid} not null,
    step int not null,
    attempt int not null,
    model_id {uuid} not null,
    usage {json} not null,
    is_estimate boolean not null,
    outcome text not null,
    latency_ms int,
    time_to_first_token_ms int,
    started_at {time} not null,
    finished_at {time} not null
);
create index model_calls_run on model_calls (run_id, step, attempt);

create table change_outbox (
    id {serial},
    tenant_id {uuid} not null,
    kind text not null,
    resource_id {uuid} not null,
    action text not null,
    audience {json} not null,
    at {time} not null
);
