-- name: lock
-- no-viewer: an advisory lock holds no record
select pg_advisory_lock(1885957735, 1);

-- name: create_history
create table if not exists schema_migration (
    name text primary key,
    label text[] not null default '{}',
    sha256 text not null,
    applied_at timestamptz not null default now()
);

-- name: history
-- no-viewer: names of our own files
select name, sha256 from schema_migration;

-- name: record
insert into schema_migration (name, sha256) values ($name, $sha256);

-- name: now
-- no-viewer: the server's own clock
select clock_timestamp() as now;

-- name: settings
-- no-viewer: the server's own settings
select current_setting('fsync') as fsync, current_setting('synchronous_commit') as synchronous_commit;
