"""`pingee log tail` and `log query` against a server that may lie: nothing is shown that the signed checkpoint does not cover."""

import json

import pytest

from clients.cli import follow
from clients.cli.exits import Exit, Failure
from clients.cli.main import build_parser
from gatekeeper.tlog.tile import encode_bundle
from tests.fakes import log_directory

LOG = log_directory.entries(12)
FILES = log_directory.served(LOG)
BUNDLE = "tile/entries/000.p/12"


class Server:
    """Serves files below /log/, one set after another for each checkpoint asked for, and scripted documents elsewhere."""

    def __init__(self, *logs, documents=()):
        self.logs, self.documents, self.asked = list(logs), list(documents), []
        self.now = None

    def get_bytes(self, path, *, most=None):
        if path == "/log/keys":
            raise Failure(Exit.REMOTE, "not-found", {"status": 404})
        if path == "/log/checkpoint" and self.logs:
            self.now = self.logs.pop(0)
            if isinstance(self.now, Exception):
                raise self.now
        data = self.now.get(path.removeprefix("/log/"))
        if data is None:
            raise Failure(Exit.REMOTE, "not-found", {"status": 404})
        return data

    def get(self, path):
        self.asked.append(path)
        return self.documents.pop(0)


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """A command's arguments, as the parser gives them."""
    (tmp_path / "policy").write_bytes(log_directory.POLICY)
    monkeypatch.setattr(follow, "LOOK_S", 0)
    return lambda *words: build_parser().parse_args(["log", *words, "--log-policy", str(tmp_path / "policy")])


class Enough(Exception):
    """The test has seen enough of what is followed."""


def test_the_newest_entries_and_those_of_one_kind(arguments, capsys):
    assert follow.tail(Server(FILES), arguments("tail", "-n", "3")) == 0
    assert capsys.readouterr().out == "".join(f"{index}\t{LOG[index].decode()}\n" for index in (9, 10, 11))
    follow.tail(Server(FILES), arguments("tail", "-n", "99", "--kind", "origin"))
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == ["0"]
    assert follow.tail(Server(FILES), arguments("tail", "-n", "0")) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("size", "count"), [(1, 1), (255, 2), (256, 1), (257, 2), (257, 256), (513, 300), (600, 1000)])
def test_any_tail_of_any_log_is_checked_from_the_tree_before_it(arguments, capsys, size, count):
    log = log_directory.entries(size)
    assert follow.tail(Server(log_directory.served(log)), arguments("tail", "-n", str(count))) == 0
    assert [int(line.split("\t")[0]) for line in capsys.readouterr().out.splitlines()] == list(range(max(0, size - count), size))


def test_a_server_that_dropped_its_partial_tiles_is_read_by_the_full_ones(arguments, capsys):
    old, new = log_directory.entries(300), log_directory.entries(600)
    files = {path: data for path, data in log_directory.served(new).items() if ".p/" not in path} | {"checkpoint": log_directory.note(old)}
    with pytest.raises(Failure, match="which its own checkpoint covers"):
        follow.tail(Server(files), arguments("tail"))  # level 1 has no full tile yet
    tiles = {path: data for path, data in log_directory.served(old).items() if path.startswith("tile/1/")}
    assert follow.tail(Server(files | tiles), arguments("tail", "-n", "2")) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == ["298", "299"]


LIES = [
    ({BUNDLE: encode_bundle([*LOG[:11], LOG[10]])}, "NOT verified: entries 9 to 11"),
    ({BUNDLE: encode_bundle(LOG[:10])}, "keeps back entry 10"),
    ({BUNDLE: b"\xff\xff"}, "no bundle"),
    ({BUNDLE: None}, "which its own checkpoint covers"),
    ({"tile/0/000.p/12": FILES["tile/0/000.p/12"][::-1]}, "NOT verified: entries 9 to 11"),
    ({"tile/0/000.p/12": b"short"}, "do not fit"),
    ({"checkpoint": FILES["checkpoint"].replace(b"\n12\n", b"\n11\n")}, "does not verify"),
]


@pytest.mark.parametrize(("lie", "words"), LIES)
def test_nothing_of_a_log_that_lies_is_shown(arguments, capsys, lie, words):
    with pytest.raises(Failure, match=words) as failure:
        follow.tail(Server(FILES | lie), arguments("tail", "-n", "3"))
    assert failure.value.exit_code is Exit.DENIED
    assert capsys.readouterr().out == ""


def test_what_is_followed_goes_on_with_each_checkpoint_and_through_a_server_s_silence(arguments, capsys):
    away = Failure(Exit.REMOTE, "the server cannot be reached")
    longer, longest = (log_directory.served(log_directory.entries(size)) for size in (14, 300))
    with pytest.raises(Enough):
        follow.tail(Server(FILES, FILES, away, longer, longest, Enough()), arguments("tail", "-n", "1", "-f"))
    out, err = capsys.readouterr()
    assert [int(line.split("\t")[0]) for line in out.splitlines()] == list(range(11, 300))
    assert err == "pingee: the server cannot be reached; asking again\n"


@pytest.mark.parametrize("size", [5, 12, 13])
def test_a_log_that_does_not_continue_the_one_shown_is_an_alarm(arguments, capsys, size):
    other = log_directory.served(log_directory.entries(size, cut="b"))
    with pytest.raises(Failure, match=r"ALARM|NOT verified: entries 12 to 12") as failure:
        follow.tail(Server(FILES, other), arguments("tail", "-n", "1", "-f"))
    assert failure.value.exit_code is Exit.DENIED
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_json_lines_as_they_come_and_a_document_only_of_what_ends(arguments, capsys):
    follow.tail(Server(FILES), arguments("tail", "-n", "2", "-o", "jsonl"))
    stream, *lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert stream == {"kind": "Stream", "apiVersion": "pingee/v1"}
    assert lines == [{"kind": "Entry", "index": index, "body": LOG[index].decode()} for index in (10, 11)]
    follow.tail(Server(FILES), arguments("tail", "-n", "2", "-o", "json"))
    assert [item["index"] for item in json.loads(capsys.readouterr().out)["items"]] == [10, 11]
    with pytest.raises(Failure, match="-o jsonl"):
        follow.tail(Server(FILES), arguments("tail", "-f", "-o", "json"))


# --- query


def page(*indices, indexed=12, cursor=None, **changes):
    items = [{"index": index, "body": LOG[index].decode()} for index in indices]
    return {"items": items, "checkpoint": FILES["checkpoint"].decode(), "indexed": indexed, "next": cursor, **changes}


def asking(*pages):
    server = Server(documents=pages)
    server.now = FILES
    return server


def test_hits_are_checked_and_both_counts_are_told(arguments, capsys):
    server = asking(page(7, 3, indexed=10))
    words = ("query", "--env", "production", "--component", "hello", "--kind", "config", "--since", "2026-11-21T10:00:00Z", "--person", "bob")
    assert follow.query(server, arguments(*words)) == 0
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == ["7", "3"]
    assert "the index may omit, the log cannot: it has read 10 of 12 entries, 2 not yet" in err
    (asked,) = server.asked
    assert asked == (
        "/v1/entries?kind=config&environment=production&component=hello&person=bob&since=2026-11-21T10%3A00%3A00Z&limit=100"
    )


def test_pages_are_followed_up_to_the_count(arguments, capsys):
    server = asking(page(9, 8, cursor="8"), page(7, cursor="7"), page())
    assert follow.query(server, arguments("query", "-n", "4", "-o", "jsonl")) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("index") for line in lines] == [None, 9, 8, 7, None]
    assert lines[-1] == {"kind": "summary", "indexed": 12, "tree_size": 12, "says": "the index may omit, the log cannot"}
    assert [path.partition("?")[2] for path in server.asked] == ["limit=4", "limit=2&cursor=8", "limit=1&cursor=7"]


def test_names_of_people_are_passed_on_to_whoever_was_given_them(arguments, capsys):
    follow.query(asking(page(7, people={"p:" + "a" * 32: "bob"})), arguments("query", "-o", "json"))
    found = json.loads(capsys.readouterr().out)
    assert (found["people"], found["tree_size"], found["items"][0]["body"]) == ({"p:" + "a" * 32: "bob"}, 12, LOG[7].decode())


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"items": [{"index": 7, "body": LOG[8].decode()}]}, "NOT verified: the index shows an entry 7 that the log does not have"),
        ({"items": [{"index": 7, "body": '{"forged":true}'}]}, "NOT verified: the index shows an entry 7"),
        ({"checkpoint": "no note"}, "does not verify"),
    ],
)
def test_a_hit_that_the_log_does_not_have_ends_it_with_3(arguments, capsys, lie, words):
    with pytest.raises(Failure, match=words) as failure:
        follow.query(asking(page(7) | lie), arguments("query"))
    assert failure.value.exit_code is Exit.DENIED
    assert capsys.readouterr().out == ""


def test_a_proof_of_another_entry_is_none(arguments):
    server = asking(page(7))
    server.now = FILES | {"proof/7": FILES["proof/8"]}
    with pytest.raises(Failure, match="NOT verified"):
        follow.query(server, arguments("query"))


@pytest.mark.parametrize("answer", [{}, page() | {"items": [7]}, page() | {"indexed": "x"}, page() | {"people": []}, page() | {"checkpoint": None}])
def test_an_answer_of_another_form_is_the_server_s_fault(arguments, answer):
    with pytest.raises(Failure, match="no list of entries") as failure:
        follow.query(asking(answer), arguments("query"))
    assert failure.value.exit_code is Exit.REMOTE


def test_help_says_what_an_index_cannot(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["log", "query", "--help"])
    assert "the index may omit, the log cannot" in " ".join(capsys.readouterr().out.split())
