"""`tests/peers/build` itself: what it refuses, and what it needs no network for. Nothing is fetched here."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.fakes.doorkeepers import ROOT

pytestmark = pytest.mark.peer
PEERS = ROOT / "tests" / "peers"
DEADLINE_S = 60


def build(*names, script=PEERS / "build", **environment):
    return subprocess.run(
        [str(script), *names], capture_output=True, text=True, timeout=DEADLINE_S, env={**os.environ, "GOPROXY": "off", **environment}, check=False
    )


def cache_of(directory):
    return {"XDG_CACHE_HOME": str(directory), "GOCACHE": str(directory / "go"), "GOMODCACHE": str(directory / "modules")}


@pytest.mark.parametrize("name", ["skopee", "", "../notes", "notes/"])
def test_an_unknown_peer_is_refused_with_the_names_there_are_and_nothing_is_written(name, tmp_path):
    done = build(name, **cache_of(tmp_path))
    assert done.returncode == 1
    assert f"no peer is called '{name}'; there are openssh-client, openssh-server, skopeo, docker-registry, tessera, omniwitness, notes and oci-registry." in done.stderr
    assert not list(tmp_path.rglob("*notes*"))


def test_what_was_built_once_is_given_without_go_and_without_a_network():
    done = build("tessera", "omniwitness", "notes", GOMODCACHE="/nonexistent", GOCACHE="/nonexistent")
    assert (done.returncode, done.stderr) == (0, "")
    programs = [Path(line) for line in done.stdout.splitlines()]
    assert [program.name for program in programs] == ["fsck", "posix-oneshot", "omniwitness", "notes"]
    assert all(os.access(program, os.X_OK) for program in programs)


def test_a_failed_download_says_what_to_do_and_leaves_nothing_half_made(tmp_path):
    done = build("notes", **cache_of(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "module lookup disabled by GOPROXY=off" in done.stderr
    assert "go could not build notes; its own words are above. If a download failed, see whether the module proxy" in done.stderr
    assert list((tmp_path / "pingee-peers" / "notes").iterdir()) == []


MODULE = "module.example/tiny"
MOD = f"module {MODULE}\n\ngo 1.25.0\n".encode()
CODE = b'package tiny\n\nfunc Word() string { return "tiny" }\n'
MAIN = f'package main\n\nimport "{MODULE}"\n\nfunc main() {{ print(tiny.Word()) }}\n'
OUR_MOD = f"module peer.example/notes\n\ngo 1.25.0\n\nrequire {MODULE} v1.0.0\n"


def h1(files):
    """The hash of a module as go.sum has it (golang.org/x/mod/sumdb/dirhash)."""
    lines = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    return f"h1:{base64.b64encode(hashlib.sha256(lines.encode()).digest()).decode()}"


def _go_env(name):
    path = f"{os.environ['PATH']}:/usr/local/go/bin"
    return subprocess.run(["go", "env", name], capture_output=True, text=True, env={**os.environ, "PATH": path}, check=True).stdout.strip()


@pytest.fixture
def tiny(tmp_path):
    """A copy of the script whose `notes` needs one module, and a proxy of files that has it: gives the script, go.sum and the environment."""
    proxy = tmp_path / "proxy" / MODULE / "@v"
    proxy.mkdir(parents=True)
    (proxy / "v1.0.0.info").write_text('{"Version": "v1.0.0"}')
    (proxy / "v1.0.0.mod").write_bytes(MOD)
    files = {f"{MODULE}@v1.0.0/go.mod": MOD, f"{MODULE}@v1.0.0/tiny.go": CODE}
    with zipfile.ZipFile(proxy / "v1.0.0.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    notes = tmp_path / "peers" / "go" / "notes"
    notes.mkdir(parents=True)
    shutil.copy(PEERS / "build", tmp_path / "peers")
    (notes / "go.mod").write_text(OUR_MOD)
    (notes / "main.go").write_text(MAIN)
    (notes / "go.sum").write_text(f"{MODULE} v1.0.0 {h1(files)}\n{MODULE} v1.0.0/go.mod {h1({'go.mod': MOD})}\n")
    environment = {"XDG_CACHE_HOME": str(tmp_path), "GOMODCACHE": str(tmp_path / "modules"), "GOPROXY": (tmp_path / "proxy").as_uri()}
    environment |= {"GOCACHE": _go_env("GOCACHE")}
    return tmp_path / "peers" / "build", notes / "go.sum", environment


def test_a_module_with_our_hash_is_built_and_one_with_another_is_not(tiny):
    script, sums, environment = tiny
    done = build("notes", script=script, **environment)
    assert done.returncode == 0, done.stderr
    assert subprocess.run([done.stdout.strip()], capture_output=True, check=True).stderr == b"tiny"
    right = sums.read_text()
    for wrong, words in ((_with_another_hash(right), "checksum mismatch"), ("", "missing go.sum entry")):
        sums.write_text(wrong)
        done = build("notes", script=script, **environment)
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
        assert "If a checksum is wrong, that proxy gave other bytes than ours: do not use them." in done.stderr


def _with_another_hash(sums):
    start = sums.index("h1:") + 3
    return sums[:start] + ("B" if sums[start] == "A" else "A") + sums[start + 1 :]


def test_two_builds_at_once_wait_for_each_other(tmp_path):
    (tmp_path / "pingee-peers").mkdir()
    with (tmp_path / "pingee-peers" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = subprocess.Popen(
            [str(PEERS / "build"), "notes"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "GOPROXY": "off", **cache_of(tmp_path)},
        )
        assert "another build is under way; waiting for it" in waiting.stderr.readline()
        assert waiting.poll() is None
    _, said = waiting.communicate(timeout=DEADLINE_S)
    assert "building notes" in said
