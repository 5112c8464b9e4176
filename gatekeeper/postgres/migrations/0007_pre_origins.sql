-- What two people ordered when an origin was opened after another: the words that its entry 0 only hides, the order as they signed it, and the
-- partial tiles of the closed origin's last signed tree, from which targets are shown that it extends what they remember. Code before this never
-- reads it.
create table origin_opening (
    origin text primary key,
    label text[] not null default '{}',
    previous_origin text not null,
    order_id text not null,
    signers text[] not null,
    envelope bytea not null,
    reason text not null,
    salt bytea not null check (octet_length(salt) = 32),
    -- of the tree in entry 0's `previous`, as far as the vault kept it; null where it kept none
    closing_edge bytea,
    opened_at timestamptz not null
);
