-- A stream's row is locked and raised by whatever appends; room in its page and no further index keep that update in place.
create table streams (
    id uuid primary key,
    tenant_id uuid not null,
    head bigint not null default 0,
    floor bigint not null default 0,
    fence bigint not null default 0
) with (fillfactor = 50);
create table events (
    tenant_id uuid not null,
    stream_id uuid not null,
    seq bigint not null,
    run_id uuid,
    attempt int not null,
    n int not null,
    v smallint not null,
    at timestamptz not null,
    kind smallint not null,
    payload bytea not null,
    originals bytea,
    primary key (stream_id, seq)
);
