-- What is looked for in entries, read from their published bytes after them: it may lag, and it can be emptied and made anew at any time.
-- It may omit; the log cannot. Whoever asks checks each hit by its proof.
create table entry_index (
    log integer not null references log (id),
    idx bigint not null check (idx >= 0),
    label text[] not null default '{}',
    kind text not null,
    at timestamptz not null,
    -- of an outcome: its decision's
    environment text,
    component text,
    -- pseudonyms, in any role
    people text[] not null default '{}',
    primary key (log, idx)
);
create index entry_index_place on entry_index (log, environment, component, idx desc);
create index entry_index_kind on entry_index (log, kind, idx desc);
create index entry_index_at on entry_index (log, at);
create index entry_index_people on entry_index using gin (people);

create table entry_index_head (
    log integer primary key references log (id),
    label text[] not null default '{}',
    -- entries below it have been read
    size bigint not null check (size >= 0)
);

-- Every certificate taken under the Allow that is being carried out, so that its outcome names those too that a killed replica took.
alter table ping add column leases text[] not null default '{}';
