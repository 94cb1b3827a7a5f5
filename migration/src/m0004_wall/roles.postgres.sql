-- The roles themselves belong to the cluster and are there by now. What neither may do, only the owner of the tables may.
do $$
declare
    name text;
    tenant constant text := $policy$tenant_id = nullif(current_setting('weft.tenant', true), '')::uuid$policy$;
    -- What a tenant's requests and runs work with.
    own constant text[] := array[
        'secrets', 'models', 'model_fallbacks', 'agents', 'agent_versions', 'conversations', 'messages', 'runs', 'run_steps',
        'tool_calls', 'model_calls', 'bookings', 'model_minutes', 'groups', 'group_ancestors', 'group_members', 'shares',
        'streams', 'events', 'unfolded', 'search_texts', 'change_outbox', 'idempotency'];
    -- What they look at, and others keep.
    looked_at constant text[] := array[
        'memberships', 'api_keys', 'invitations', 'invitation_groups', 'auto_join_domains', 'usage_hours', 'usage_latencies',
        'model_turns', 'model_served'];
    audit constant text[] := array['audit_entries', 'audit_pending', 'audit_links', 'audit_chains'];
    -- Of a tenant, but for the system alone.
    kept constant text[] := array['set_up', 'sessions', 'password_resets', 'sign_in_codes'];
    -- What the system works with across tenants: who signs in, what is written into the log, claimed, swept, found and added up.
    across constant text[] := array[
        'memberships', 'api_keys', 'invitations', 'invitation_groups', 'auto_join_domains', 'set_up', 'sessions',
        'password_resets', 'sign_in_codes', 'groups', 'group_ancestors', 'group_members', 'shares', 'idempotency',
        'change_outbox', 'streams', 'events', 'unfolded', 'runs', 'conversations', 'messages', 'search_texts', 'models',
        'model_turns', 'model_served', 'bookings', 'usage_hours', 'usage_latencies', 'model_minutes'];
    -- What it looks at across tenants: which models are in use, and how they do.
    looked_at_across constant text[] := array['agents', 'agent_versions', 'model_fallbacks', 'model_calls'];
    -- What is of no tenant.
    of_all constant text[] := array[
        'meta', 'signing_keys', 'tenants', 'users', 'sign_in_failures', 'known_addresses', 'identities', 'oidc_flows',
        'logout_tokens', 'installation_keys'];
begin
    execute format('grant usage on schema %I to weft_tenant, weft_system', current_schema());
    foreach name in array own || looked_at || audit || kept loop
        execute format('alter table %I enable row level security, force row level security', name);
    end loop;
    foreach name in array own || looked_at || audit loop
        execute format('create policy weft_tenant on %I to weft_tenant using (%s)', name, tenant);
    end loop;
    foreach name in array own loop
        execute format('grant select, insert, update, delete on %I to weft_tenant', name);
    end loop;
    foreach name in array looked_at loop
        execute format('grant select on %I to weft_tenant', name);
    end loop;
    -- A group that goes is no longer what an invitation leads to.
    grant delete on invitation_groups to weft_tenant;
    foreach name in array across || looked_at_across || audit loop
        execute format('create policy weft_system on %I to weft_system using (true)', name);
    end loop;
    foreach name in array across || of_all loop
        execute format('grant select, insert, update, delete on %I to weft_system', name);
    end loop;
    foreach name in array looked_at_across loop
        execute format('grant select on %I to weft_system', name);
    end loop;
    -- How often an agent was used is added up with the rest.
    grant update (uses) on agents to weft_system;
    -- A tenant is made with its first model, and that one's key.
    create policy weft_system on secrets for insert to weft_system with check (true);
    grant insert on secrets to weft_system;

    -- Nobody at run time changes what was noted; the owner alone takes away what is old.
    grant select, insert on audit_entries to weft_tenant, weft_system;
    grant insert on audit_pending to weft_tenant;
    grant select, insert, delete on audit_pending to weft_system;
    grant select, insert on audit_links to weft_system;
    grant select, insert, update on audit_chains to weft_system;
    foreach name in array audit loop
        execute format('create policy weft_owner on %I to current_user using (true)', name);
    end loop;

    -- A tenant itself, and the people who belong to it or once did.
    alter table tenants enable row level security, force row level security;
    create policy weft_tenant on tenants to weft_tenant
        using (id = nullif(current_setting('weft.tenant', true), '')::uuid);
    create policy weft_system on tenants to weft_system using (true);
    grant select, update (default_model_id, updated_at) on tenants to weft_tenant;
    alter table users enable row level security, force row level security;
    create policy weft_members on users for select to weft_tenant using (exists (
        select 1 from memberships m
        where m.user_id = users.id and m.tenant_id = nullif(current_setting('weft.tenant', true), '')::uuid));
    create policy weft_system on users to weft_system using (true);
    grant select on users to weft_tenant;
end
$$;
