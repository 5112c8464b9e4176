-- name: person
-- no-viewer: a pseudonym is made and resolved by use cases, which ask what their Viewer may know
select issuer, subject, pseudonym, wrapped_key from person where issuer = $issuer and subject = $subject;

-- name: person_by_pseudonym
-- no-viewer: a pseudonym is made and resolved by use cases, which ask what their Viewer may know
select issuer, subject, pseudonym, wrapped_key from person where pseudonym = $pseudonym;

-- name: add_person
insert into person (issuer, subject, pseudonym, wrapped_key) values ($issuer, $subject, $pseudonym, $wrapped_key)
on conflict (issuer, subject) do nothing;

-- name: use_once
insert into used_token (issuer, jti, purpose, expires_at) values ($issuer, $jti, $purpose, $expires_at) on conflict do nothing;

-- name: forget_expired
-- A bounded number each time: the table is swept by those who use it.
-- no-viewer: used tokens are nobody's record
delete from used_token where ctid in (select ctid from used_token where expires_at < $now limit 100 for update skip locked);
