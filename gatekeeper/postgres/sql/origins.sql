-- name: origins
-- no-viewer: names of logs, which stand in every checkpoint
select origin from log where exists (select from log_head where log_head.log = log.id and size > 0) order by id;

-- name: add_opening
insert into origin_opening (origin, previous_origin, order_id, signers, envelope, reason, salt, closing_edge, opened_at)
values ($origin, $previous_origin, $order_id, $signers, $envelope, $reason, $salt, $closing_edge, $opened_at)
on conflict do nothing;

-- name: opening
-- no-viewer: read by the command that opens an origin, and by the gatekeeper for itself
select * from origin_opening where origin = $origin;
