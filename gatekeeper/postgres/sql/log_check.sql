-- The check of a log reads what is there and writes nothing, not even an advisory lock.

-- name: log
-- no-viewer: the number of a log
select id from log where origin = $origin;

-- name: rows
-- no-viewer: entries of a log, for its whole check
select idx, entry_id, body, leaf_hash from log_entry where log = $log::int and idx >= $start::bigint and idx < $stop::bigint order by idx;

-- name: tile
-- no-viewer: tiles of a log, for its whole check
select data from log_tile where log = $log::int and level = $level::smallint and n = $n::bigint;

-- name: tiles
-- no-viewer: tiles of a log, for its whole check
select n, data from log_tile where log = $log::int and level = $level::smallint and n >= $first::bigint and n < $stop::bigint order by n;

-- name: checkpoints
-- no-viewer: signed notes are made to be shown
select note, size from checkpoint where log = $log::int order by size desc, seq desc limit $most::int;
