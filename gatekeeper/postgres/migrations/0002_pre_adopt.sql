-- Modes: the mode of a ping's last decision, and the end of a ping that was allowed in mode shadow. Code before this never makes either.
alter table ping add column mode text;
drop index ping_open;
create index ping_open on ping (next_at nulls first, created_at)
    where state not in ('denied', 'deployed', 'rolled-back', 'failed', 'unresponsive', 'superseded', 'cancelled', 'shadow-allowed');

-- What was adopted has no commit that anybody knows, and no receipt put it there. It stands among the deployments with purpose `adopt`.
alter table ping alter column source_commit drop not null;
alter table deployment alter column source_commit drop not null;
alter table deployment alter column receipt drop not null;

create table adoption (
    id text primary key check (id ~ '^[0-9a-f]{32}$'),
    label text[] not null default '{}',
    caller text not null,
    idempotency_key text not null,
    body text not null,
    project text not null,
    environment text not null,
    component text not null,
    artifact text not null,
    config text not null,
    reason text not null,
    at timestamptz not null,
    -- the exact bytes of the log entry, kept from before the append so that a crash after it finds the same again
    entry bytea not null,
    log_index bigint,
    unique (caller, idempotency_key),
    unique (environment, component)
);
create index adoption_artifact on adoption (artifact);
