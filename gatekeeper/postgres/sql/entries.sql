-- name: size
-- no-viewer: how far the index goes
select h.size from entry_index_head h join log l on l.id = h.log where l.origin = $origin;

-- name: open_index
-- no-viewer: the index writes about itself
insert into entry_index_head (log, size) select id, 0 from log where origin = $origin on conflict (log) do nothing;

-- name: advance
-- no-viewer: the index writes about itself
update entry_index_head set size = $stop where log = (select id from log where origin = $origin) and size = $start;

-- name: add
-- no-viewer: rows are written from what was read of public entries
insert into entry_index (log, idx, label, kind, at, environment, component, people)
select l.id, r.idx, string_to_array(r.label, ' '), r.kind, r.at, r.environment, r.component, string_to_array(r.people, ' ')
from unnest($idx::bigint[], $labels::text[], $kind::text[], $at::timestamptz[], $environment::text[], $component::text[], $people::text[])
     as r (idx, label, kind, at, environment, component, people)
join log l on l.origin = $origin;

-- name: places
-- no-viewer: the index completes its own rows
select i.idx, i.environment, i.component from entry_index i join log l on l.id = i.log
where l.origin = $origin and i.idx = any($indices::bigint[]);

-- name: find
select i.idx, i.label, i.kind, i.at, i.environment, i.component, i.people, e.body
from entry_index i
join log l on l.id = i.log
join log_entry e on e.log = i.log and e.idx = i.idx
where l.origin = $origin and i.label <@ $viewer_clearances
  and ($kind::text is null or i.kind = $kind)
  and ($environment::text is null or i.environment = $environment)
  and ($component::text is null or i.component = $component)
  and ($person::text is null or i.people @> array[$person::text])
  and ($since::timestamptz is null or i.at >= $since)
  and ($below::bigint is null or i.idx < $below)
order by i.idx desc
limit $count;
