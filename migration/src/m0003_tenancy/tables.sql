-- What a tenant decides for itself. No number of runs: as many as the installation allows.
alter table tenants add column title_model_id {uuid};
alter table tenants add column retention_days int;
alter table tenants add column max_concurrent_runs int;
-- Whoever a trusted provider proves an address of such a domain for may join that tenant.
create table auto_join_domains (
    domain text primary key,
    tenant_id {uuid} not null
);
create index auto_join_domains_tenant on auto_join_domains (tenant_id);

-- Whether a provider proved the address.
alter table users add column is_email_proven boolean not null default false;
-- The service key that made the account.
alter table users add column created_by_key_id {uuid};
create index users_created_by_key on users (created_by_key_id, created_at) where created_by_key_id is not null;

-- A key that signs access tokens is published before it does.
alter table signing_keys add column signs_from {time} not null default '1970-01-01T00:00:00+00:00';
update signing_keys set signs_from = created_at;

-- What refresh tokens and keyed digests follow from, sealed: they stay good when the secret key changes. One row.
create table installation_keys (
    one int primary key check (one = 1),
    sealed {bytes} not null
);

create unique index memberships_in_tenant on memberships (tenant_id, id);
create unique index memberships_of_user on memberships (tenant_id, user_id);

-- Groups never move: a group's place is told by its path, and its ancestors, itself among them, stand in a table of their own.
create table groups (
    id {uuid} primary key,
    tenant_id {uuid} not null,
    parent_id {uuid},
    name text not null,
    path text not null,
    description text not null,
    created_at {time} not null,
    updated_at {time} not null,
    unique (tenant_id, id),
    foreign key (tenant_id, parent_id) references groups (tenant_id, id)
);
create unique index groups_path on groups (tenant_id, path);
create index groups_parent on groups (tenant_id, parent_id, path);
create table group_ancestors (
    tenant_id {uuid} not null,
    group_id {uuid} not null,
    ancestor_id {uuid} not null,
    -- 0: itself.
    distance int not null,
    primary key (group_id, ancestor_id),
    foreign key (tenant_id, group_id) references groups (tenant_id, id),
    foreign key (tenant_id, ancestor_id) references groups (tenant_id, id)
);
create index group_ancestors_ancestor on group_ancestors (tenant_id, ancestor_id, group_id);
create table group_members (
    id {uuid} primary key,
    tenant_id {uuid} not null,
    group_id {uuid} not null,
    user_id {uuid} not null,
    role text not null,
    created_at {time} not null,
    updated_at {time} not null,
    foreign key (tenant_id, group_id) references groups (tenant_id, id),
    foreign key (tenant_id, user_id) references memberships (tenant_id, user_id)
);
create unique index group_members_user on group_members (tenant_id, user_id, group_id);
create index group_members_group on group_members (tenant_id, group_id, id);

-- Who else may use a resource. Exactly one of user, group and tenant.
create table shares (
    id {uuid} primary key,
    tenant_id {uuid} not null,
    kind text not null,
    resource_id {uuid} not null,
    user_id {uuid},
    group_id {uuid},
    with_tenant boolean not null,
    access text not null,
    created_at {time} not null,
    foreign key (tenant_id, user_id) references memberships (tenant_id, user_id),
    foreign key (tenant_id, group_id) references groups (tenant_id, id)
);
create unique index shares_with_user on shares (resource_id, user_id) where user_id is not null;
create unique index shares_with_group on shares (resource_id, group_id) where group_id is not null;
create unique index shares_with_tenant on shares (resource_id) where with_tenant;
create index shares_of_user on shares (tenant_id, user_id, kind) where user_id is not null;
create index shares_of_group on shares (tenant_id, group_id, kind) where group_id is not null;
create index shares_of_tenant on shares (tenant_id, kind) where with_tenant;

-- Where a resource lives, and what shares say of it, beside its row: so each change can say who saw it without reading more.
alter table agents add column group_id {uuid};
alter table agents add column reach {json};
create index agents_group on agents (tenant_id, group_id) where group_id is not null;
alter table models add column group_id {uuid};
alter table models add column reach {json};
create index models_group on models (tenant_id, group_id) where group_id is not null;
alter table conversations add column reach {json};

create table invitations (
    id {uuid} primary key,
    tenant_id {uuid} not null,
    digest {bytes} not null unique,
    email text,
    email_key text,
    role text not null,
    uses int not null,
    uses_left int not null,
    failures int not null,
    invited_by {uuid} not null,
    -- Made by an administrator of the platform, who need not be a member.
    by_platform boolean not null,
    expires_at {time} not null,
    revoked_at {time},
    created_at {time} not null,
    unique (tenant_id, id)
);
create index invitations_newest on invitations (tenant_id, created_at, id);
create table invitation_groups (
    tenant_id {uuid} not null,
    invitation_id {uuid} not null,
    group_id {uuid} not null,
    primary key (invitation_id, group_id),
    foreign key (tenant_id, invitation_id) references invitations (tenant_id, id),
    foreign key (tenant_id, group_id) references groups (tenant_id, id)
);
create index invitation_groups_group on invitation_groups (tenant_id, group_id);

-- A token that lets its holder choose a password, once.
create table password_resets (
    digest {bytes} primary key,
    user_id {uuid} not null,
    tenant_id {uuid} not null,
    expires_at {time} not null,
    created_at {time} not null
);
create index password_resets_user on password_resets (user_id);

-- Accounts at OpenID providers, and what goes on until somebody is signed in by one.
create table identities (
    id {uuid} primary key,
    user_id {uuid} not null,
    issuer text not null,
    subject text not null,
    linked_at {time} not null
);
create unique index identities_account on identities (issuer, subject);
create index identities_user on identities (user_id, linked_at, id);
create table oidc_flows (
    state_digest {bytes} primary key,
    cookie_digest {bytes} not null,
    provider text not null,
    -- Nonce and verifier, as the provider will be asked with them.
    sealed {bytes} not null,
    return_to text not null,
    client_state text,
    code_challenge text not null,
    invitation_digest {bytes},
    is_link boolean not null,
    expires_at {time} not null
);
create index oidc_flows_expires on oidc_flows (expires_at);
create table sign_in_codes (
    digest {bytes} primary key,
    code_challenge text not null,
    -- Whom it signs in, and where; for a link the identity alone.
    user_id {uuid},
    tenant_id {uuid},
    identity_id {uuid},
    is_link boolean not null,
    provider text not null,
    issuer text not null,
    subject text not null,
    email text,
    provider_sid text,
    -- The provider's token of identity, to sign out of it by.
    sealed_id_token {bytes},
    expires_at {time} not null
);
create index sign_in_codes_expires on sign_in_codes (expires_at);
create table logout_tokens (
    digest {bytes} primary key,
    expires_at {time} not null
);
alter table sessions add column provider text;
alter table sessions add column identity_id {uuid};
alter table sessions add column provider_sid text;
alter table sessions add column sealed_id_token {bytes};
create index sessions_identity on sessions (identity_id) where identity_id is not null;

-- Who did what. Only ever added to; what was committed is then linked into the tenant's chain, in order.
create table audit_entries (
    id {uuid} primary key,
    -- All zeros: of the installation, where nobody knows of which tenant.
    tenant_id {uuid} not null,
    at {time} not null,
    actor_id {uuid},
    api_key_id {uuid},
    on_behalf_of_id {uuid},
    action text not null,
    target_id text,
    outcome text not null,
    address text,
    details {json} not null
);
create index audit_entries_newest on audit_entries (tenant_id, at, id);
create index audit_entries_actor on audit_entries (tenant_id, actor_id, at, id);
create index audit_entries_target on audit_entries (tenant_id, target_id, at, id);
create table audit_pending (
    id {serial},
    tenant_id {uuid} not null,
    entry_id {uuid} not null
);
create table audit_links (
    tenant_id {uuid} not null,
    seq bigint not null,
    entry_id {uuid} not null,
    mac {bytes} not null,
    primary key (tenant_id, seq)
);
create unique index audit_links_entry on audit_links (entry_id);
-- A chain: the key that its links are made with, and up to where it was let go of when its time was over.
create table audit_chains (
    tenant_id {uuid} primary key,
    sealed_key {bytes} not null,
    floor bigint not null,
    floor_mac {bytes} not null,
    floor_proof {bytes} not null
);
