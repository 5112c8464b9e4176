-- Every table has a label from the first day: the set of compartments a reader must be cleared for; empty is public.

create table ping (
    id text primary key check (id ~ '^[0-9a-f]{32}$'),
    label text[] not null default '{}',
    caller text not null,
    idempotency_key text not null,
    body text not null,
    purpose text not null,
    project text not null,
    environment text not null,
    component text not null,
    artifact text not null,
    config text not null,
    source_commit text not null,
    bound_commit text,
    reason text not null,
    deadline timestamptz not null,
    created_at timestamptz not null,
    rollback_of text,
    on_behalf_of text,
    state text not null,
    version bigint not null default 1,
    verdict text,
    reasons text[] not null default '{}',
    rules text not null default '[]',
    policy text,
    policy_commit text,
    evaluated_at timestamptz,
    fence bigint,
    entry_id text,
    logged_at timestamptz,
    logged_reasons text[],
    log_index bigint,
    receipt text,
    not_after timestamptz,
    accessor text,
    draft bytea,
    outcome_index bigint,
    detail text not null default '',
    next_at timestamptz,
    updated_at timestamptz,
    -- of ping_event; kept here so that seq has no gaps
    events bigint not null default 0,
    -- id of the session whose advisory lock says that its replica lives
    claim integer,
    -- a wake that arrives while a replica works on the ping must outlive the replica's own next_at
    wakes bigint not null default 0,
    seen_wakes bigint not null default 0,
    unique (caller, idempotency_key)
);
create index ping_open on ping (next_at nulls first, created_at)
    where state not in ('denied', 'deployed', 'rolled-back', 'failed', 'unresponsive', 'superseded', 'cancelled');
create index ping_newest on ping (created_at desc, id desc);
create index ping_place on ping (environment, component, created_at desc);
create index ping_artifact on ping (artifact) where state in ('received', 'pending', 'indeterminate');

create table ping_event (
    ping_id text not null references ping (id),
    seq bigint not null,
    label text[] not null default '{}',
    event text not null,
    at timestamptz not null,
    data text not null,
    primary key (ping_id, seq)
);

create table place_lock (
    environment text not null,
    component text not null,
    label text[] not null default '{}',
    -- only grows, also over releases: the fencing token
    fence bigint not null default 0,
    ping_id text references ping (id),
    since timestamptz,
    primary key (environment, component)
);

create table artifact (
    artifact text primary key,
    label text[] not null default '{}',
    project text not null,
    component text not null,
    repository text not null,
    source_commit text not null,
    tree text not null,
    builder text not null,
    run text not null,
    uploader text not null,
    manifest text not null,
    received_at timestamptz not null,
    complete boolean not null
);
create index artifact_newest on artifact (received_at desc, artifact);
create index artifact_commit on artifact (source_commit);

create table statement (
    digest text primary key,
    label text[] not null default '{}',
    artifact text not null,
    kind text not null,
    stage text,
    bundle bytea not null,
    received_at timestamptz not null,
    log_index bigint not null
);
create index statement_artifact on statement (artifact, received_at);

create table vote (
    digest text primary key,
    label text[] not null default '{}',
    project text not null,
    change text not null,
    revision text not null,
    voter text not null,
    value integer not null,
    review_label text not null,
    bundle bytea not null,
    received_at timestamptz not null
);
create index vote_change on vote (project, change, received_at);

create table receipt (
    id text primary key,
    label text[] not null default '{}',
    ping_id text not null,
    environment text not null,
    component text not null,
    receipt bytea not null,
    log_index bigint not null,
    statement text not null,
    created_at timestamptz not null
);

create table deployment (
    ping_id text primary key,
    label text[] not null default '{}',
    environment text not null,
    component text not null,
    project text not null,
    artifact text not null,
    config text not null,
    source_commit text not null,
    purpose text not null,
    state text not null,
    receipt text not null,
    decision_index bigint not null,
    outcome_index bigint not null,
    at timestamptz not null
);
create index deployment_place on deployment (environment, component, at desc, outcome_index desc);

create table person (
    issuer text not null,
    subject text not null,
    label text[] not null default '{}',
    pseudonym text not null unique,
    wrapped_key text not null,
    primary key (issuer, subject)
);

create table used_token (
    issuer text not null,
    jti text not null,
    purpose text not null,
    label text[] not null default '{}',
    expires_at timestamptz not null,
    primary key (issuer, jti, purpose)
);
create index used_token_expiry on used_token (expires_at);

create table log (
    id integer generated always as identity primary key,
    label text[] not null default '{}',
    origin text not null unique
);

create table log_head (
    log integer primary key references log (id),
    label text[] not null default '{}',
    size bigint not null check (size >= 0),
    -- hashes of the complete subtrees, largest first
    edge bytea not null,
    root bytea not null check (octet_length(root) = 32)
);

create table log_entry (
    log integer not null references log (id),
    idx bigint not null check (idx >= 0),
    label text[] not null default '{}',
    kind text not null,
    entry_id text not null,
    body bytea not null check (octet_length(body) between 1 and 65535),
    leaf_hash bytea not null check (octet_length(leaf_hash) = 32),
    primary key (log, idx),
    unique (log, entry_id)
);
-- signed text does not compress to anything worth the time
alter table log_entry alter column body set storage external;

create table log_tile (
    log integer not null references log (id),
    level smallint not null,
    n bigint not null,
    label text[] not null default '{}',
    data bytea not null check (octet_length(data) = 8192),
    primary key (log, level, n)
);

create table checkpoint (
    seq bigint generated always as identity primary key,
    log integer not null references log (id),
    label text[] not null default '{}',
    size bigint not null,
    note bytea not null,
    signed_at timestamptz not null default now()
);
create index checkpoint_newest on checkpoint (log, size desc, seq desc);

-- Hygiene against our own mistakes. It stops no database administrator: the signed checkpoints do.
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'rows of % are never changed or deleted', tg_table_name using errcode = 'integrity_constraint_violation';
end
$$;
create trigger log_entry_stands before update or delete on log_entry for each row execute function refuse_change();
create trigger log_tile_stands before update or delete on log_tile for each row execute function refuse_change();
create trigger checkpoint_stands before update or delete on checkpoint for each row execute function refuse_change();
create trigger log_entry_stays before truncate on log_entry for each statement execute function refuse_change();
create trigger log_tile_stays before truncate on log_tile for each statement execute function refuse_change();
create trigger checkpoint_stays before truncate on checkpoint for each statement execute function refuse_change();
