-- name: ensure_place
insert into place_lock (environment, component) values ($environment, $component) on conflict do nothing;

-- name: hold_place
-- no-viewer: the executor's own question; the row stays locked until the transaction ends
select fence, ping_id, since, label from place_lock where environment = $environment and component = $component for update;

-- name: take
-- The lock is as secret as the ping that holds it.
update place_lock set fence = place_lock.fence + 1, ping_id = p.id, since = $now, label = p.label
from ping p
where place_lock.environment = $environment and place_lock.component = $component and p.id = $ping_id
returning place_lock.fence;

-- name: release
update place_lock set ping_id = null, since = null, label = '{}'
where environment = $environment and component = $component and fence = $fence and ping_id is not null;

-- name: holder
select fence, ping_id, since, label from place_lock
where environment = $environment and component = $component and ping_id is not null and label <@ $viewer_clearances;
