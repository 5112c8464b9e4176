-- What opens the slots of sealed leaves, wrapped by the vault before it comes here: r and body by one key, the private part by a key for each
-- embargo, whose deletion shreds it. A lift empties the label; decoys have no rows.
create table sealed (
    log integer not null references log (id),
    idx bigint not null,
    slot smallint not null check (slot between 0 and 3),
    label text[] not null default '{}',
    entry_id text not null,
    r_enc bytea not null,
    body_enc bytea not null,
    private_enc bytea not null,
    primary key (log, idx, slot),
    unique (log, entry_id)
);

-- A slot's place and decision never change; what wraps it may, when a key is rotated.
create trigger sealed_stands before update of log, idx, slot, entry_id or delete on sealed for each row execute function refuse_change();
create trigger sealed_stays before truncate on sealed for each statement execute function refuse_change();
