-- Keys of a log that are followed by others: the `key` entry exactly as it goes into the log, whichever replica appends it, and the
-- signature of it by the key that it replaces. A row that key did not sign is worth nothing, whoever wrote it.

create table log_key_change (
    log integer not null references log (id),
    entry_id text not null,
    label text[] not null default '{}',
    entry bytea not null check (octet_length(entry) between 1 and 4096),
    endorsement bytea not null check (octet_length(endorsement) between 1 and 256),
    primary key (log, entry_id)
);
create trigger log_key_change_stands before update or delete on log_key_change for each row execute function refuse_change();
create trigger log_key_change_stays before truncate on log_key_change for each statement execute function refuse_change();
