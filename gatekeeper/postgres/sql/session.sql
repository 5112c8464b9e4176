-- name: live
-- no-viewer: an advisory lock holds no record
select pg_advisory_lock(1885957736, $id::int);

-- name: lead
-- no-viewer: an advisory lock holds no record
select pg_try_advisory_lock(1885957737, $log::int);

-- name: probe
-- no-viewer: asks for nothing
select 1;

-- name: hold_turn
-- no-viewer: an advisory lock holds no record
select pg_advisory_lock(1885957738, $log::int);

-- name: end_turn
-- no-viewer: an advisory lock holds no record
select pg_advisory_unlock(1885957738, $log::int);
