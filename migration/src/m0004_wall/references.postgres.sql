-- References within a tenant name the tenant: one that named the row alone would reach across the wall, which the database does not
-- ask when it checks them. They are checked when a transaction ends, as some rows name each other. What changes with every message
-- or step (the leaf of a conversation, its active run) has none.
alter table models add unique (tenant_id, id);
alter table secrets add unique (tenant_id, id);
alter table agents add unique (tenant_id, id);
alter table agent_versions add unique (tenant_id, id);
alter table conversations add unique (tenant_id, id);
alter table runs add unique (tenant_id, id);

alter table models
    add foreign key (tenant_id, secret_id) references secrets (tenant_id, id) deferrable initially deferred;
alter table model_fallbacks
    add foreign key (tenant_id, model_id) references models (tenant_id, id) deferrable initially deferred,
    add foreign key (tenant_id, fallback_id) references models (tenant_id, id) deferrable initially deferred;
alter table model_calls
    add foreign key (tenant_id, model_id) references models (tenant_id, id) deferrable initially deferred;
alter table agents
    add foreign key (tenant_id, draft_model_id) references models (tenant_id, id) deferrable initially deferred,
    add foreign key (tenant_id, version_id) references agent_versions (tenant_id, id) deferrable initially deferred;
alter table agent_versions
    add foreign key (tenant_id, agent_id) references agents (tenant_id, id) deferrable initially deferred,
    add foreign key (tenant_id, model_id) references models (tenant_id, id) deferrable initially deferred;
alter table conversations
    add foreign key (tenant_id, agent_id) references agents (tenant_id, id) deferrable initially deferred;
alter table messages
    add foreign key (tenant_id, conversation_id) references conversations (tenant_id, id) deferrable initially deferred;
alter table runs
    add foreign key (tenant_id, conversation_id) references conversations (tenant_id, id) deferrable initially deferred,
    add foreign key (tenant_id, agent_id) references agents (tenant_id, id) deferrable initially deferred;
alter table run_steps
    add foreign key (tenant_id, run_id) references runs (tenant_id, id) deferrable initially deferred;
alter table tool_calls
    add foreign key (tenant_id, run_id) references runs (tenant_id, id) deferrable initially deferred;
