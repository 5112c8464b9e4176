"""SECRETS, attack matrix 135: what is secret is searched for in the whole house. Each kind of search is shown to see: a planted leak is found.

Canaries lie in the vault and with their workload; the tokens of people, the supervisor and the vault's recovery key each in one file.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from ssl import create_default_context

import pytest

from clients.demo.canaries import expected_places, house_leaks, installed
from clients.demo.git import commit_all, git
from clients.demo.leaks import Leak, Needles, readable_processes, search_database, search_files, search_processes, search_texts
from clients.demo.postgres import dump_tables, run_sql

PLANTED = "canary-planted-0a1b2c3d4e5f6071829"


@pytest.fixture(scope="module")
def found(demo):
    return {instance.name: installed(demo.stage, instance) for instance in demo.world.instances}


@pytest.fixture(scope="module")
def canaries(found):
    return Needles.of({f"{name}/{key}": value for name, one in found.items() for key, value in one.secrets.items()})


@pytest.fixture
def planted():
    return Needles.of({"planted": PLANTED})


def database_url(demo, name="production"):
    return Path(demo.world.instance(name).database_url_file).read_text().strip()


# nowhere


def test_canaries_are_nowhere_but_in_the_vault_and_with_their_workload(demo, found, canaries):
    assert {name: one.secrets["PINGEE_CANARY"].startswith(f"canary-{name}-") for name, one in found.items()} == {"test": True, "production": True}
    assert all(one.file.stat().st_mode & 0o777 == 0o600 for one in found.values())
    assert readable_processes() > 5
    assert house_leaks(demo.stage, canaries) == expected_places(found)


def test_tokens_and_the_operators_keys_lie_in_their_own_file_alone(demo):
    directory = Path(demo.world.directory)
    files = {
        "supervisor": directory / "operator" / "supervisor.token",
        "recovery": directory / "operator" / "recovery.key",
        **{f"{person.name}": person / "production.token" for person in (directory / "people").iterdir()},
    }
    needles = Needles.of({name: file.read_text().strip() for name, file in files.items()})
    leaks = house_leaks(demo.stage, needles) - {Leak(name, str(file)) for name, file in files.items()}
    assert leaks == set()
    assert all(file.stat().st_mode & 0o077 == 0 for file in files.values())


def test_nothing_secret_is_in_temporary_files(demo, canaries):
    began = Path(demo.world.directory, "vault", "bao.hcl").stat().st_mtime
    recent = [path for path in Path(tempfile.gettempdir()).iterdir() if _changed_at(path) >= began and path != Path(demo.world.directory)]
    # Houses of other demos and of other tests have their own secrets, and are large.
    files = [path for path in recent if path.is_file() or path.name.startswith(("pingee-build-", "signers-", "tmp"))]
    assert search_files(canaries, *files) == set()


def _changed_at(path):
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:  # other tests' files come and go
        return 0


def test_refusals_and_errors_tell_nobody_a_secret(demo, canaries):
    """Answers to what is wrong: problem documents, and what the command line prints."""
    production = demo.world.instance("production")
    alice = demo.world.token_file("alice", "production").read_text().strip()
    needles = Needles({**canaries.spellings, **Needles.of({"alice": alice}).spellings})
    asked = [
        ("GET", "/v1/pings/" + "0" * 32, None),
        ("POST", "/v1/pings", b"{"),
        ("POST", "/v1/pings", json.dumps({"environment": "production", "component": alice[:60]}).encode()),
        ("POST", "/v1/pings", b'{"environment":"production","component":"hello","artifact":"sha256:' + b"0" * 64 + b'"}'),
        ("PUT", "/v1/blobs/sha256:" + "0" * 64, b"x"),
        ("GET", "/v1/whoami?token=" + "x" * 20, None),
    ]
    texts = {f"{method} {path} {number}": answer(production, method, path, body, alice) for number, (method, path, body) in enumerate(asked)}
    bad = demo.stage.as_person("alice", production, "ping", "production", "nobody", "--artifact", "sha256:" + "0" * 64, "-v", code=None)
    texts["pingee ping"] = (bad.out + bad.err).encode()
    assert all(b'"code"' in text or b"nobody" in text or b"issuer" in text for text in texts.values()), texts
    assert search_texts(needles, texts) == set()


def answer(instance, method, path, body, token):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Idempotency-Key": os.urandom(8).hex()}
    request = urllib.request.Request(instance.url + path, data=body, headers=headers, method=method)
    context = create_default_context(cafile=instance.ca_file)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=30) as found:
            return found.read() + str(found.headers).encode()
    except urllib.error.HTTPError as error:
        with error:
            return error.read() + str(error.headers).encode()


def test_no_core_file_can_be_written_by_what_holds_secrets(demo):
    directory = Path(demo.world.directory)
    pids = [int(Path(instance.pid_file).read_text()) for instance in demo.world.instances]
    pids += [int((directory / "targets" / instance.name / "host.pid").read_text()) for instance in demo.world.instances]
    for pid in pids:
        (limit,) = [line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith("Max core file size")]
        assert limit.split()[4:6] == ["0", "0"]
        # Not dumpable: the files under /proc are root's, whoever the process belongs to.
        assert Path(f"/proc/{pid}/environ").stat().st_uid == 0
    assert [path for path in directory.rglob("core*") if path.is_file() and path.name.partition(".")[0] == "core"] == []


# the searches see


@pytest.mark.parametrize(
    "text",
    [
        PLANTED.encode(),
        b"{" + base64.b64encode(b"x" + PLANTED.encode() + b"yy") + b"}",
        base64.urlsafe_b64encode(b"xx" + PLANTED.encode()),
        b"\\x" + PLANTED.encode().hex().encode(),
        b"0" * ((1 << 20) - 5) + PLANTED.encode(),
    ],
    ids=["plain", "base64", "base64url", "bytea", "across-chunks"],
)
def test_a_file_that_holds_a_secret_in_any_spelling_is_found(tmp_path, planted, text):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "gatekeeper.log").write_bytes(text)
    (tmp_path / "deep" / "other").write_bytes(b"nothing")
    assert search_files(planted, tmp_path) == {Leak("planted", str(tmp_path / "deep" / "gatekeeper.log"))}


def test_a_leak_in_a_copy_of_a_room_is_found(demo, tmp_path, planted):
    """Layouts, builder outputs, logs and the vault's audit file, each with one line more."""
    directory = Path(demo.world.directory)
    rooms = [Path(demo.world.instance("test").artifacts), directory / "work", directory / "vault" / "audit.log", directory / "keeper.log"]
    for number, room in enumerate(rooms):
        copy = tmp_path / str(number)
        if room.is_dir():
            shutil.copytree(room, copy, symlinks=True)
        else:
            copy.mkdir()
            shutil.copy(room, copy)
        assert search_files(planted, copy) == set()
        victim = max((path for path in copy.rglob("*") if path.is_file() and not path.is_symlink()), key=lambda path: path.stat().st_size)
        victim.chmod(0o644)
        with victim.open("ab") as file:
            file.write(PLANTED.encode())
        assert search_files(planted, copy) == {Leak("planted", str(victim))}


@pytest.mark.parametrize("packed", [False, True])
def test_a_secret_in_a_commit_is_found_though_git_compresses_it(tmp_path, planted, packed):
    git("init", "-q", "-b", "main", str(tmp_path), cwd=tmp_path)
    (tmp_path / "config.toml").write_text(f"KEY = '{PLANTED}'\n")
    commit_all(tmp_path, "Oh", who="alice")
    (tmp_path / "config.toml").unlink()
    commit_all(tmp_path, "Gone", who="alice")
    if packed:
        git("gc", "-q", "--aggressive", "--prune=now", cwd=tmp_path)
    assert search_files(planted, tmp_path) == {Leak("planted", f"git objects of {tmp_path / '.git'}")}


@pytest.mark.parametrize("where", ["environ", "cmdline"])
def test_a_process_that_shows_a_secret_is_found_and_a_workload_of_its_own_is_not(planted, where):
    argument, variables = (PLANTED, {}) if where == "cmdline" else ("", {"KEY": PLANTED})
    script = "import sys; print(flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", script, argument]
    with subprocess.Popen(argv, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert search_processes(planted) == {Leak("planted", f"{where} of process {child.pid}")}
        assert search_processes(planted, besides=[child.pid]) == set()
        child.communicate(timeout=60)


@pytest.mark.parametrize("column", ["text", "bytea", "jsonb"])
def test_a_row_that_holds_a_secret_is_found(demo, planted, column):
    url = database_url(demo)
    value = {"text": f"'{PLANTED}'", "bytea": f"'\\x{PLANTED.encode().hex()}'::bytea", "jsonb": f"'{json.dumps({'a': PLANTED})}'::jsonb"}[column]
    assert search_database(planted, {"production": dump_tables(url)}) == set()
    run_sql(url, f"create table planted_here (a {column}); insert into planted_here values ({value});")
    try:
        assert search_database(planted, {"production": dump_tables(url)}) == {Leak("planted", "database production, planted_here")}
    finally:
        run_sql(url, "drop table planted_here;")


def test_the_dump_holds_every_table_and_the_log(demo):
    dump = dump_tables(database_url(demo)).decode()
    tables = {line.split("\t", 1)[0] for line in dump.splitlines()}
    assert {"ping", "deployment", "log_entry", "statement", "vote", "receipt", "person"} <= tables
    assert demo.step("deploy")["ping"] in dump


def test_an_answer_that_holds_a_secret_is_found(planted):
    texts = {"/metrics": b"pingee_up 1\n", "/v1/running": json.dumps({"a": [PLANTED]}).encode()}
    assert search_texts(planted, texts) == {Leak("planted", "/v1/running")}


def test_a_name_of_a_file_is_looked_at_too(tmp_path, planted):
    (tmp_path / PLANTED).touch()
    assert search_files(planted, tmp_path) == {Leak("planted", f"the name of {tmp_path / PLANTED}")}


def test_a_pipe_or_a_link_never_holds_the_search_up(tmp_path, planted):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    with contextlib.suppress(OSError):
        (tmp_path / "loop").symlink_to(tmp_path)
    assert search_files(planted, tmp_path) == set()


def test_too_short_a_secret_is_not_looked_for_in_vain():
    with pytest.raises(ValueError, match="12 bytes"):
        Needles.of({"short": "hunter2"})
