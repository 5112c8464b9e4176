"""scripts/fetch-corpora as a whole, against repositories on this machine: git rewrites the address, the test puts their commits in place of upstream's."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
LINE = re.compile(r"^((?:fetch|extract) (\S+) (\S+)) (\S+)", re.MULTILINE)
TABLE = "func TestIt(t *testing.T) {\n\tx := []row{\n\t\t// good\n\t\t{document: `{}`, fail: false},\n\t}\n}\n"
SCHEMAS = ("manifest", "imageindex", "descriptor", "config", "imagelayout", "backwards_compatibility")
PROTOCOL = "\n## Test Vectors\n" + "".join(f"```none\n{text}\n```\n" for text in ("b", "t", "DSSEv1 1 t 1 b", "X: 1\nY: 2", '{"payload": "Yg=="}'))
UPSTREAM = {
    "transparency-dev/merkle": {"testdata/consistency/1/happy-path.json": "{}"},
    "transparency-dev/tessera": {"testdata/log/checkpoint": "a log", "testdata/log/tile/0/000.p/1": "a tile"},
    "sigstore/sigstore-conformance": {"test/assets/bundle-verify/a.txt": "a", "test/assets/bundle-verify/x_fail/bundle.sigstore.json": "{}"},
    "C2SP/wycheproof": {"testvectors_v1/ed25519_test.json": "{}"},
    "secure-systems-lab/dsse": {"protocol.md": PROTOCOL},
    "in-toto/attestation": {
        "spec/v1/a.md": "```json\n{}\n```\n",
        "go/v1/statement_test.go": "const a = `{}`\n",
        "go/v1/resource_descriptor_test.go": "",
    },
    "opencontainers/image-spec": {f"schema/{name}_test.go": TABLE for name in SCHEMAS},
}
MADE = {
    "merkle/testdata/consistency/1/happy-path.json",
    "tessera-log/checkpoint",
    "tessera-log/tile/0/000.p/1",
    "sigstore-conformance/bundle-verify/a.txt",
    "sigstore-conformance/bundle-verify/x_fail/bundle.sigstore.json",
    "wycheproof/ed25519_test.json",
    "dsse/vector.json",
    "in-toto-attestation/index.json",
    "in-toto-attestation/spec-examples/spec__v1__a__0.json",
    "in-toto-attestation/spec-examples/unit__go_v1_statement_test_go__a.json",
    *(f"oci-image-spec/cases/{kind}.json" for kind in ("manifest", "index", "descriptor", "config", "layout", "compat")),
}


@pytest.fixture
def git(tmp_path):
    """Runs git, or a program that does, with addresses of github.com leading to tmp_path/upstream."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    settings = {
        f"url.{(tmp_path / 'upstream').as_uri()}/.insteadOf": "https://github.com/",
        "user.name": "a",
        "user.email": "a@example.com",
    }
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TMPDIR": str(scratch),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    environment["GIT_CONFIG_COUNT"] = str(len(settings))
    for number, (key, value) in enumerate(settings.items()):
        environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}

    def run(*words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, env=environment | more, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)

    return run


def publish(git, place: Path, files: dict[str, str]) -> str:
    """A repository with the files in its first commit, which is the answer, and without them in its last."""
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    partial = [["config", f"uploadpack.{name}", "true"] for name in ("allowFilter", "allowAnySHA1InWant")]  # as on github.com
    commands = (["init", "-q"], *partial, ["add", "."], ["commit", "-qm", "one"], ["rm", "-qr", "."], ["commit", "-qm", "two", "--allow-empty"])
    assert [git("git", "-C", place, *words).stderr for words in commands] == [""] * len(commands)
    return git("git", "-C", place, "rev-parse", "HEAD~").stdout.strip()


@pytest.fixture
def script(tmp_path, git):
    shutil.copytree(SCRIPTS, tmp_path / "checkout" / "scripts")
    here = tmp_path / "checkout" / "scripts" / "fetch-corpora"
    commits = {name: publish(git, tmp_path / "upstream" / name, files) for name, files in UPSTREAM.items()}
    text, number = LINE.subn(lambda line: f"{line[1]} {commits[line[3]]}", here.read_text())
    assert number == len(UPSTREAM)
    here.write_text(text)
    return here


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_every_corpus_is_made_from_its_commit_and_one_that_is_there_is_left_alone(tmp_path, git, script):
    done = git(script)
    assert (done.returncode, done.stderr) == (0, "")
    corpora = tmp_path / "shared" / "corpora"
    assert files(corpora) == MADE
    assert json.loads((corpora / "dsse" / "vector.json").read_bytes())["envelope"] == {"payload": "Yg=="}
    assert json.loads((corpora / "oci-image-spec" / "cases" / "index.json").read_bytes())[0]["comment"] == "good"
    (corpora / "dsse" / "vector.json").write_text("mine")
    again = git(script)
    assert again.stdout.count("already there") == len(UPSTREAM)
    assert files(corpora) == MADE
    assert (corpora / "dsse" / "vector.json").read_text() == "mine"
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_corpus_that_cannot_be_extracted_whole_is_not_put_in_its_place(tmp_path, git, script):
    text = script.read_text()
    commit = publish(git, tmp_path / "upstream" / "secure-systems-lab" / "other", {"protocol.md": PROTOCOL.replace("X: 1", "Z: 1")})
    (line,) = (line for line in text.splitlines() if line.startswith("extract dsse "))
    script.write_text(text.replace(line, f"extract dsse secure-systems-lab/other {commit}"))
    there = {"merkle", "tessera-log", "sigstore-conformance", "wycheproof"}
    for name in there:
        (tmp_path / "elsewhere" / name).mkdir(parents=True)
    done = git(script, PINGEE_CORPORA=str(tmp_path / "elsewhere"))
    assert done.returncode != 0
    assert "KeyError: 'X'" in done.stderr
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == there
    assert list((tmp_path / "scratch").iterdir()) == []
