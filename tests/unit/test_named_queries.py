"""Every query knows its reader: SQL that reads rows filters by label, or says why it has no Viewer."""

import re

import pytest

from gatekeeper.model.ping import ENDED, WAITING
from gatekeeper.postgres.migrate import DIRECTORY as MIGRATIONS
from gatekeeper.postgres.migrate import shipped_migrations
from gatekeeper.postgres.queries import DIRECTORY, Query, load_queries

FILES = sorted(path.stem for path in DIRECTORY.glob("*.sql"))
QUERIES = [(name, query) for name in FILES for query in load_queries(name).values()]
READS = re.compile(r"\bselect\b|\breturning\b", re.IGNORECASE)
COMMENT = re.compile(r"--[^\n]*")
# Writers that select from what they are given or return what they wrote, and nothing else.
OWN_ROWS = {"create", "move", "add_events", "take", "open_head", "add_entries", "add_tiles", "add_checkpoint"}


def test_there_are_queries():
    assert len(QUERIES) > 40


@pytest.mark.parametrize(("file", "query"), QUERIES, ids=[f"{name}.{query.name}" for name, query in QUERIES])
def test_what_reads_filters_by_label_or_says_why_not(file, query):
    code = COMMENT.sub("", query.text)
    if not READS.search(code) or query.name in OWN_ROWS:
        return
    reason = re.search(r"-- no-viewer: (.{10,})", query.text)
    reads = len(re.findall(r"\bfrom\b", code, re.IGNORECASE))
    filters = code.count("label <@ $viewer_clearances")
    assert reason or (filters == reads > 0), f"{file}.{query.name} reads rows without a Viewer"


def test_migrations_are_numbered_one_after_another():
    names = sorted(path.stem for path in MIGRATIONS.iterdir())
    numbers = [int(name.partition("_pre_")[0]) for name in names]
    assert numbers == sorted(set(numbers))
    assert shipped_migrations() == tuple(names)


def test_every_table_has_a_label():
    text = "".join(path.read_text() for path in MIGRATIONS.glob("*.sql")) + load_queries("schema")["create_history"].text
    tables = re.findall(r"create table (?:if not exists )?(\w+) \((.*?)\n\);?", text, re.DOTALL)
    assert len(tables) == 24
    assert [name for name, body in tables if "label text[] not null default '{}'" not in body] == []


def test_the_states_spelled_out_in_sql_are_the_model_s():
    made = "".join(path.read_text() for path in sorted(MIGRATIONS.glob("*.sql")))
    # of an index that a later migration makes anew the last word counts
    indexes = dict(re.findall(r"create (?:unique )?index (\w+) (.*?);", made, re.DOTALL))
    sql = "".join(query.text for _, query in QUERIES) + "".join(indexes.values())
    lists = {
        (negated, frozenset(re.findall(r"'([a-z-]+)'", states)))
        for negated, states in re.findall(r"state (not )?in \(([^)]*)\)", sql)
    }
    assert lists == {("not ", frozenset(state.value for state in ENDED)), ("", frozenset(state.value for state in WAITING))}


def test_parameters_are_sent_by_position_and_bound_by_name():
    query = Query("q", "select $b, $a, $b, $sha256", ("b", "a", "sha256"))
    assert query.sql == "select $1, $2, $1, $3"
    assert query.bind({"a": 1, "b": 2, "sha256": 3}) == (2, 1, 3)
    for wrong in ({"a": 1, "b": 2}, {"a": 1, "b": 2, "sha256": 3, "c": 4}):
        with pytest.raises(ValueError, match="do not match"):
            query.bind(wrong)
