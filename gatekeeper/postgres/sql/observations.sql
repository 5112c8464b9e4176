-- name: newest
-- no-viewer: the observer's own question
-- An index grows within its origin alone: what an origin that was opened later holds is newer.
select distinct on (d.environment, d.component) d.* from deployment d
order by d.environment, d.component, (select count(*) from origin_opening p where p.opened_at <= d.at) desc, d.decision_index desc;

-- name: deployed
-- no-viewer: the observer's own question
select distinct on (environment, component) * from deployment where state = 'deployed'
order by environment, component, at desc, outcome_index desc;

-- name: heard
-- no-viewer: the observer's own question
select environment, component, observed_at from observation;

-- name: observe
insert into observation (environment, component, label, target, kind, running, config, override_order, deployment, observed_at)
values ($environment, $component, $label, $target, $kind, $running, $config, $override_order, $deployment, $observed_at)
on conflict (environment, component) do update
set label = excluded.label, target = excluded.target, kind = excluded.kind, running = excluded.running, config = excluded.config,
    override_order = excluded.override_order, deployment = excluded.deployment, observed_at = excluded.observed_at
where observation.observed_at <= excluded.observed_at;

-- name: drift
-- no-viewer: times of openings, which every log tells; observations and deployments are filtered by label
-- What was seen before a later deployment says nothing of it.
select o.* from observation o
where o.label <@ $viewer_clearances and o.kind is not null
  and ($environment::text is null or o.environment = $environment)
  and ($component::text is null or o.component = $component)
  and o.deployment = (select d.ping_id from deployment d
                      where d.environment = o.environment and d.component = o.component and d.label <@ $viewer_clearances
                      order by (select count(*) from origin_opening p where p.opened_at <= d.at) desc, d.decision_index desc limit 1)
order by o.environment, o.component;

-- name: add_order
insert into override_order (order_digest, target, label, environment, component, digest, signers, reason, incident, salt, envelope, outcome,
                            applied_at, entry_id, entry, log_index)
values ($order_digest, $target, $label, $environment, $component, $digest, $signers, $reason, $incident, $salt, $envelope, $outcome,
        $applied_at, $entry_id, $entry, $log_index)
on conflict do nothing;

-- name: order
-- no-viewer: the observer's own question
select * from override_order where target = $target and order_digest = $order_digest;

-- name: order_logged
-- no-viewer: the observer's own work
update override_order set log_index = $log_index where target = $target and order_digest = $order_digest;

-- name: reported
-- no-viewer: the executor's own question
select order_digest from override_order where target = $target and component = $component and log_index is not null
order by applied_at desc, order_digest limit 64;
