-- The states that ended, and those that wait, are spelled out so that the partial indexes apply; a test holds them against the model.

-- name: create
insert into ping (id, label, caller, idempotency_key, body, purpose, project, environment, component, artifact, config, source_commit,
                  bound_commit, reason, deadline, created_at, updated_at, rollback_of, on_behalf_of, state)
values ($id, $label, $caller, $idempotency_key, $body, $purpose, $project, $environment, $component, $artifact, $config, $source_commit,
        $bound_commit, $reason, $deadline, $created_at, $created_at, $rollback_of, $on_behalf_of, 'received')
on conflict (caller, idempotency_key) do nothing
returning *;

-- name: by_key
-- no-viewer: a caller's own earlier request
select * from ping where caller = $caller and idempotency_key = $idempotency_key;

-- name: get
select * from ping where id = $id and label <@ $viewer_clearances;

-- name: list_pings
select * from ping
where label <@ $viewer_clearances
  and ($environment::text is null or environment = $environment)
  and ($component::text is null or component = $component)
  and ($state::text is null or state = $state)
  and ($reason::text is null or reasons @> array[$reason::text])
  and ($caller::text is null or caller = $caller)
  and ($before::text is null
       or (created_at, id) < (select b.created_at, b.id from ping b where b.id = $before and b.label <@ $viewer_clearances))
order by created_at desc, id desc
limit $count;

-- name: claim_due
-- A claim is stale when nobody holds the advisory lock of its session.
-- no-viewer: the replica's own work
update ping set claim = $claim, seen_wakes = wakes
where id in (
    select id from ping
    where state not in ('denied', 'deployed', 'rolled-back', 'failed', 'unresponsive', 'superseded', 'cancelled', 'shadow-allowed')
      and (next_at is null or next_at <= $now)
      and (claim is null or claim not in (
          select objid::bigint from pg_locks
          where locktype = 'advisory' and classid::bigint = 1885957736 and objsubid = 2 and granted
            and database = (select oid from pg_database where datname = current_database())))
    order by next_at nulls first, created_at, id
    limit $count
    for update skip locked)
returning *;

-- name: unclaim
update ping set claim = null where id = $id and claim = $claim;

-- name: move
-- A wake since the claim outlives the new next_at: what it told of may have come too late for this move.
update ping set
    state = $state, version = version + 1, verdict = $verdict, mode = $mode, reasons = $reasons, rules = $rules, policy = $policy,
    policy_commit = $policy_commit, evaluated_at = $evaluated_at, fence = $fence, entry_id = $entry_id, logged_at = $logged_at,
    logged_reasons = $logged_reasons, log_index = $log_index, receipt = $receipt, not_after = $not_after, accessor = $accessor,
    leases = $leases, draft = $draft, outcome_index = $outcome_index, detail = $detail, updated_at = $now, events = events + $added::int,
    next_at = case when wakes > seen_wakes and $state in ('received', 'pending', 'indeterminate')
                   then least($next_at::timestamptz, $now::timestamptz) else $next_at::timestamptz end
where id = $id and version = $version
returning *;

-- name: add_events
insert into ping_event (ping_id, label, seq, event, at, data)
select $id, $label::text[], $first::bigint + e.nr - 1, e.event, $now, e.data
from unnest($names::text[], $data::text[]) with ordinality as e (event, data, nr);

-- name: events
select seq, event, at, data from ping_event
where ping_id = $id and seq > $after and label <@ $viewer_clearances
order by seq;

-- name: wake_place
update ping set wakes = wakes + 1, next_at = $now
where state in ('received', 'pending', 'indeterminate')
  and ($environment::text is null or environment = $environment)
  and ($component::text is null or component = $component);

-- name: wake_artifact
update ping set wakes = wakes + 1, next_at = $now
where state in ('received', 'pending', 'indeterminate') and artifact = $artifact;

-- name: wake_project
update ping set wakes = wakes + 1, next_at = $now
where state in ('received', 'pending', 'indeterminate') and project = $project;

-- name: notify
-- no-viewer: an empty notification
select pg_notify('pingee_ping', '');
