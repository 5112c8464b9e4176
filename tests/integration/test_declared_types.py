"""PROGLANGS: a document that says its type and nothing else, really built and tested wherever the type's programs are present.

For the others the builder's answer is `toolchain-missing`, naming what it looked for. LIMITBOILERPLATE: the document is one line long.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from builder.languages import LANGUAGES, parse_type
from tests.fakes.git_repositories import Repository

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}

MAKEFILE = "all:\n\tmkdir -p out && {make} > out/x && chmod 755 out/x\n{test}:\n\ttest -s out/x\n"
SOURCES = {
    "shell": {"main.sh": "echo hi\n", "tests/one.sh": "sh main.sh | grep -q hi\n"},
    "python": {"main.py": "def hi():\n    return 1\n", "tests/test_it.py": "import unittest\nimport main\n\n\nclass Hi(unittest.TestCase):\n    def test_it(self):\n        self.assertEqual(main.hi(), 1)\n"},
    "ruby": {"main.rb": "HI = 1\n", "test/one_test.rb": "require './main'\nabort unless HI == 1\n"},
    "php": {"public/index.php": "<?php echo 1;\n", "vendor/bin/phpunit": "<?php exit(0);\n"},
    "node": {"index.js": "exports.hi = 1\n", "one.test.js": "const test = require('node:test')\ntest('hi', () => { if (require('./index.js').hi !== 1) throw 1 })\n"},
    "go": {"go.mod": "module x\n\ngo 1.18\n", "main.go": "package main\n\nfunc main() { print(1) }\n"},
    "java": {"src/main/java/Main.java": "public class Main { static int hi() { return 1; } public static void main(String[] a) {} }\n", "src/test/java/MainTest.java": "public class MainTest { public static void main(String[] a) { assert Main.hi() == 1; } }\n"},
    "make": {"Makefile": MAKEFILE.format(make="echo hi", test="test")},
    "c": {"main.c": "int main(void) { return 0; }\n", "Makefile": "all:\n\tmkdir -p out && cc -o out/x main.c\ncheck:\n\tout/x\n"},
}  # fmt: skip
# `go test` compiles half of Go's library first: its command is asserted on the plan, the build is real.
OWN_TEST = {"go": "commit: {test: ['out/x 2>&1 | grep -qx 1']}"}
KEPT = {"shell": "out/main.sh", "python": "out/main.py", "ruby": "out/main.rb", "php": "out/public/index.php", "node": "out/index.js", "java": "out/x.jar"}


def build(tmp_path, document, files, *arguments):
    (tmp_path / "x").mkdir()
    repository = Repository(tmp_path / "x")
    commit = repository.commit({".pipeline/config.yaml": document, **files})
    command = [sys.executable, "-P", "-m", "builder.cli", "run", repository.path, commit, "--no-submit", "-o", "json", "--out", tmp_path / "out", *arguments]
    done = subprocess.run(list(map(str, command)), env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, json.loads(done.stdout), (tmp_path / "out/log").read_text()


def present(name):
    return all(any(os.access(place, os.X_OK) for place in places) for places in parse_type(name).places().values())


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_document_of_one_line_builds_tests_and_keeps_what_runs(tmp_path, name):
    """PROGLANGS, LIMITBOILERPLATE."""
    document = "{" + ", ".join(["version: 1", f"type: {name}", *filter(None, [OWN_TEST.get(name)])]) + "}\n"
    code, report, log = build(tmp_path, document, SOURCES[name])
    if not present(name):
        assert (code, report["code"]) == (1, "toolchain-missing")
        assert next(iter(LANGUAGES[name].programs.values()))[0] in report["detail"]
        return
    assert (code, report.get("result")) == (0, "PASSED"), log
    with tarfile.open(tmp_path / "out/layer.tar") as tar:
        assert KEPT.get(name, "out/x") in tar.getnames()
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["run"]["health"] == "/healthz"
    assert any("{port}" in word for word in config["run"]["argv"])


BROKEN = {
    "shell": {"tests/one.sh": "false\n"},
    "python": {"tests/test_it.py": "import unittest\n\n\nclass Hi(unittest.TestCase):\n    def test_it(self):\n        self.fail()\n"},
    "node": {"one.test.js": "throw 1\n"},
    "java": {"src/test/java/MainTest.java": "public class MainTest { public static void main(String[] a) { assert Main.hi() == 2; } }\n"},
    "make": {"Makefile": MAKEFILE.format(make=":", test="test")},
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_the_default_tests_of_a_type_can_fail(tmp_path, name):
    code, report, log = build(tmp_path, f"{{version: 1, type: {name}}}\n", {**SOURCES[name], **BROKEN[name]})
    if not present(name):
        assert (code, report["code"]) == (1, "toolchain-missing")
        return
    assert (code, report.get("result")) == (3, "FAILED"), log


def test_a_version_of_a_type_is_what_its_program_is(tmp_path):
    """PROGLANGS, "versions of each": `python3` inside is the version that the document names, from wherever it lies."""
    have = next((v for v in ("3.11", "3.12", "3.13", "3.10", "3.14") if os.access(f"/usr/bin/python{v}", os.X_OK)), None)
    assert have, "this machine has a /usr/bin/python3 without a version in its name"
    document = f'version: 1\ntype: python-{have}\ncommit:\n  test: ["command -v python3; python3 -V; python3 -m unittest discover -s tests"]\n'
    code, _, log = build(tmp_path, document, SOURCES["python"])
    assert code == 0, log
    assert f"\n/run/toolchain/python3\nPython {have}." in log


def test_a_version_that_is_not_there_is_said(tmp_path):
    code, report, _ = build(tmp_path, "{version: 1, type: python-2.6}\n", SOURCES["python"])
    assert (code, report["code"]) == (1, "toolchain-missing")
    assert report["detail"] == "type python-2.6 needs /usr/bin/python2.6 or /usr/local/bin/python2.6, which this builder does not have"
