-- What was done once already, so that the same mutation with the same key is not done again.
create table idempotency (
    tenant_id {uuid} not null,
    principal_id {uuid} not null,
    user_id {uuid} not null,
    mutation text not null,
    key text not null,
    input_mac {bytes} not null,
    answer {json},
    created_at {time} not null,
    primary key (tenant_id, principal_id, user_id, mutation, key)
);
create index idempotency_created on idempotency (created_at);

-- Which pair of tokens was last issued, when, and whether anything of it was used.
alter table sessions add column rotated_at {time};
alter table sessions add column used_rotation bigint not null default 0;

-- Until when a model's breaker stands open, and when it is to be looked at next.
alter table models add column breaker_until {time};
alter table models add column check_at {time};
create index models_check on models (check_at) where deleted_at is null;
-- Whose turn it is to call a model that takes only so many calls at once. A row waits, then holds, and lapses with its process.
create table model_turns (
    id {uuid} primary key,
    tenant_id {uuid} not null,
    model_id {uuid} not null,
    user_id {uuid} not null,
    run_id {uuid} not null,
    owner {uuid} not null,
    held_at {time},
    asked_at {time} not null,
    lease_until {time} not null
);
create index model_turns_model on model_turns (model_id, asked_at, id);
-- When a user was last given a turn at such a model: who waited longest is next.
create table model_served (
    tenant_id {uuid} not null,
    model_id {uuid} not null,
    user_id {uuid} not null,
    served_at {time} not null,
    primary key (model_id, user_id)
);
-- ANSWER, SUMMARY or TITLE.
alter table model_calls add column purpose text not null default 'ANSWER';
create index model_calls_model on model_calls (model_id, finished_at);
alter table runs add column primary_model_id {uuid};

alter table agents add column uses bigint not null default 0;
create index agents_uses on agents (tenant_id, uses, id) where deleted_at is null;

-- When a title is to be written, and how often that failed.
alter table conversations add column title_due_at {time};
alter table conversations add column title_failures int not null default 0;
create index conversations_title_due on conversations (title_due_at) where title_due_at is not null;
-- Whether its title, or its text, can be found.
alter table conversations add column is_indexed boolean not null default false;
create index conversations_unindexed on conversations (id) where not is_indexed;
alter table messages add column is_indexed boolean not null default false;
create index messages_unindexed on messages (id) where not is_indexed and status <> 'STREAMING';
-- Of a SYSTEM message: what of its path it stands for.
alter table messages add column summary {json};
-- Undone, with its whole turn; events still name it.
alter table messages add column removed_at {time};

-- What calls and runs used, until it is rolled up: written with what it tells of, taken away by the roll-up, in order.
create table bookings (
    id {serial},
    tenant_id {uuid} not null,
    kind text not null,
    conversation_id {uuid} not null,
    agent_id {uuid},
    model_id {uuid},
    user_id {uuid} not null,
    failed boolean not null,
    input_tokens bigint not null,
    output_tokens bigint not null,
    cost text,
    latency_ms int,
    time_to_first_token_ms int,
    at {time} not null
);
-- By hour, of a tenant, an agent, a model or a conversation; a cost in whole units and millionths of a millionth.
create table usage_hours (
    tenant_id {uuid} not null,
    subject_id {uuid} not null,
    hour {time} not null,
    runs bigint not null,
    failed_runs bigint not null,
    input_tokens bigint not null,
    output_tokens bigint not null,
    cost_units bigint not null,
    cost_picos bigint not null,
    primary key (subject_id, hour)
);
create table usage_latencies (
    tenant_id {uuid} not null,
    subject_id {uuid} not null,
    hour {time} not null,
    kind smallint not null,
    bucket smallint not null,
    count bigint not null,
    primary key (subject_id, hour, kind, bucket)
);
-- By minute, for a model's health.
create table model_minutes (
    tenant_id {uuid} not null,
    model_id {uuid} not null,
    minute {time} not null,
    calls int not null,
    failed int not null,
    primary key (model_id, minute)
);
create index model_minutes_minute on model_minutes (minute);
