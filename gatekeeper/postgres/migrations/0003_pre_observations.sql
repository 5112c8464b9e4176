-- What targets said when they were asked, and the override orders that people used there.

create table observation (
    environment text not null,
    component text not null,
    label text[] not null default '{}',
    target text not null,
    kind text check (kind in ('override', 'stopped', 'unmanaged')),
    running text,
    config text,
    override_order text,
    -- whose newest deployment it was asked about: a ping, or an adoption
    deployment text not null,
    observed_at timestamptz not null,
    primary key (environment, component)
);

create table override_order (
    order_digest text not null,
    target text not null,
    label text[] not null default '{}',
    environment text not null,
    component text not null,
    digest text not null,
    signers text[] not null,
    reason text not null,
    incident text not null,
    salt bytea not null,
    envelope bytea not null,
    outcome text not null,
    applied_at timestamptz not null,
    entry_id text not null,
    -- exactly as it goes into the log, whichever replica appends it
    entry bytea not null,
    log_index bigint,
    primary key (target, order_digest)
);
