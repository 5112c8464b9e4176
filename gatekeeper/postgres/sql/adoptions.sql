-- name: add_adoption
insert into adoption (id, label, caller, idempotency_key, body, project, environment, component, artifact, config, reason, at, entry)
values ($id, $label, $caller, $idempotency_key, $body, $project, $environment, $component, $artifact, $config, $reason, $at, $entry)
on conflict do nothing;

-- name: by_key
-- no-viewer: a caller's own earlier request
select * from adoption where caller = $caller and idempotency_key = $idempotency_key;

-- name: by_place
-- no-viewer: what is in the way of the caller's own request
select * from adoption where environment = $environment and component = $component;

-- name: mark_logged
update adoption set log_index = $log_index, entry = $entry where id = $id and log_index is null;

-- name: adoption
select * from adoption where environment = $environment and component = $component and label <@ $viewer_clearances;

-- name: adoptions_of
select * from adoption where artifact = $artifact and log_index is not null and label <@ $viewer_clearances order by at, id;
