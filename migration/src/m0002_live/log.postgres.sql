-- Runs that are over and whose text still stands in pieces: between which numbers of their stream. On SQLite it is joined as it is
-- written.
create table unfolded (
    run_id uuid primary key,
    tenant_id uuid not null,
    stream_id uuid not null,
    after bigint not null,
    upto bigint not null
);
insert into unfolded (run_id, tenant_id, stream_id, after, upto)
    select id, tenant_id, conversation_id, first_seq, terminal_seq from runs where terminal_seq is not null;
