create table streams (
    id blob primary key,
    tenant_id blob not null,
    head bigint not null default 0,
    floor bigint not null default 0,
    fence bigint not null default 0
) without rowid;
create table events (
    tenant_id blob not null,
    stream_id blob not null,
    seq bigint not null,
    run_id blob,
    attempt int not null,
    n int not null,
    v int not null,
    at text not null,
    kind int not null,
    payload blob not null,
    originals blob,
    primary key (stream_id, seq)
) without rowid;
-- Live deltas, in the order in which they came: a table that only grows at its end dirties few pages, whatever the number of
-- streams. Folded into `events` about once a second and at start.
create table event_tail (
    id integer primary key,
    tenant_id blob not null,
    stream_id blob not null,
    seq bigint not null,
    run_id blob,
    attempt int not null,
    n int not null,
    v int not null,
    at text not null,
    kind int not null,
    payload blob not null
);
