-- What the log holds is served to whoever may read its origin at all; embargoed decisions stand in it sealed (log format, section 4).

-- name: open_log
insert into log (origin) values ($origin) on conflict (origin) do nothing;

-- name: open_head
insert into log_head (log, size, edge, root) select id, 0, $edge, $root from log where origin = $origin on conflict do nothing;

-- name: head
-- no-viewer: the head of a log
select log, size, edge, root from log_head where log = (select id from log where origin = $origin);

-- name: move_head
-- in our own turn: nobody else appends
update log_head set size = $size, edge = $edge, root = $root where log = $log and size = $old_size and root = $old_root;

-- name: await_turn_and_move_head
-- no-viewer: writes the head of a log
-- One round trip: the turn of another replica is waited for, then the row is looked at anew (READ COMMITTED), whatever moved it meanwhile.
with turn as materialized (select pg_advisory_xact_lock(1885957738, $log::int))
update log_head set size = $size, edge = $edge, root = $root from turn where log = $log and size = $old_size and root = $old_root;

-- name: add_entries
insert into log_entry (log, idx, kind, entry_id, body, leaf_hash)
select $log::int, * from unnest($idx::bigint[], $kind::text[], $entry_id::text[], $body::bytea[], $leaf_hash::bytea[]);

-- name: add_tiles
insert into log_tile (log, level, n, data) select $log::int, * from unnest($level::smallint[], $n::bigint[], $data::bytea[]);

-- name: add_sealed
insert into sealed (log, idx, slot, label, entry_id, r_enc, body_enc, private_enc)
values ($log, $idx, $slot, $label, $entry_id, $r_enc, $body_enc, $private_enc);

-- name: find_sealed
select idx, slot, label, entry_id, r_enc, body_enc, private_enc from sealed
where log = $log and entry_id = any($entry_ids::text[]) and label <@ $viewer_clearances;

-- name: find
-- no-viewer: entries of a log
select idx, entry_id, leaf_hash, body from log_entry where log = $log and entry_id = any($entry_ids::text[]);

-- name: bodies
-- no-viewer: entries of a log
select body from log_entry where log = $log and idx >= $start::bigint and idx < $stop::bigint order by idx;

-- name: newest_of
-- no-viewer: entries of a log
select body from log_entry where log = $log and kind = $kind order by idx desc limit 1;

-- name: leaf_hashes
-- no-viewer: entries of a log
select leaf_hash from log_entry where log = $log and idx >= $start::bigint and idx < $stop::bigint order by idx;

-- name: tile
-- no-viewer: tiles of a log
select data from log_tile where log = $log and level = $level and n = $n;

-- name: add_checkpoint
insert into checkpoint (log, size, note)
select $log::int, $size::bigint, $note::bytea
where $note::bytea is distinct from (select note from checkpoint where log = $log::int and size = $size::bigint order by seq desc limit 1);

-- name: newest_checkpoints
-- no-viewer: signed notes are made to be shown
select note from checkpoint where log = $log order by size desc, seq desc limit $count::int;

-- name: add_key_change
insert into log_key_change (log, entry_id, entry, endorsement) values ($log::int, $entry_id, $entry, $endorsement) on conflict do nothing;

-- name: key_changes
-- no-viewer: key entries are public, and so are signed notes
select change.entry, change.endorsement, entry.idx,
    (select note from checkpoint where log = change.log and size > entry.idx order by size, seq desc limit 1) as note
from log_key_change change
left join log_entry entry on entry.log = change.log and entry.entry_id = change.entry_id and entry.body = change.entry
where change.log = $log::int
order by entry.idx nulls last, change.entry_id
limit 64;
