-- name: add_artifact
-- The first facts stand; only `complete` may still turn true.
insert into artifact (artifact, label, project, component, repository, source_commit, tree, builder, run, uploader, manifest, received_at, complete)
values ($artifact, $label, $project, $component, $repository, $source_commit, $tree, $builder, $run, $uploader, $manifest, $received_at, $complete)
on conflict (artifact) do update set complete = true where not artifact.complete and excluded.complete;

-- name: artifact
select * from artifact where artifact = $artifact and label <@ $viewer_clearances;

-- name: artifacts
select * from artifact
where label <@ $viewer_clearances
  and ($source_commit::text is null or source_commit = $source_commit)
  and ($project::text is null or project = $project)
order by received_at desc, artifact
limit $count;

-- name: add_statement
insert into statement (digest, label, artifact, kind, stage, bundle, received_at, log_index)
values ($digest, $label, $artifact, $kind, $stage, $bundle, $received_at, $log_index)
on conflict do nothing;

-- name: statements
select * from statement where artifact = $artifact and label <@ $viewer_clearances order by received_at, log_index, digest;

-- name: add_vote
insert into vote (digest, label, project, change, revision, voter, value, review_label, bundle, received_at)
values ($digest, $label, $project, $change, $revision, $voter, $value, $review_label, $bundle, $received_at)
on conflict do nothing;

-- name: votes
select * from vote where project = $project and change = $change and label <@ $viewer_clearances order by received_at, digest;

-- name: add_receipt
insert into receipt (id, label, ping_id, environment, component, receipt, log_index, statement, created_at)
values ($id, $label, $ping_id, $environment, $component, $receipt, $log_index, $statement, $created_at)
on conflict do nothing;

-- name: allows
-- no-viewer: a number that the gatekeeper reads for itself while it carries out the ping
select count(*) as allows from receipt where ping_id = $ping_id;

-- name: receipt
select * from receipt where id = $id and label <@ $viewer_clearances;

-- name: add_deployment
insert into deployment (ping_id, label, environment, component, project, artifact, config, source_commit, purpose, state, receipt,
                        decision_index, outcome_index, at)
values ($ping_id, $label, $environment, $component, $project, $artifact, $config, $source_commit, $purpose, $state, $receipt,
        $decision_index, $outcome_index, $at)
on conflict do nothing;

-- name: running
select distinct on (environment, component) * from deployment
where label <@ $viewer_clearances and state = 'deployed'
  and ($environment::text is null or environment = $environment)
  and ($component::text is null or component = $component)
order by environment, component, at desc, outcome_index desc;

-- name: history
select * from deployment
where environment = $environment and component = $component and label <@ $viewer_clearances
order by at desc, outcome_index desc
limit $count;
