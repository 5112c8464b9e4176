"""A stranger's document gets another `run`, and keeps everything else."""

from pathlib import Path

import pytest

from builder.fault import BuildFault
from builder.pipeline import parse_document
from builder.plan import make_plan
from clients.demo.held import held_document

TOP = """\
version: 1
# a comment of its owner's
artifact:
  paths: [site/]
"""
LONG = 'run:\n  argv: [python3, -m, http.server, "{port}"]  # as always\n  health: /\n'
RUNS = {
    "block": LONG,
    "with an empty line": LONG + "\n# the end\n",
    "without a last newline": LONG.rstrip("\n"),
    "list": 'run:\n  argv:\n    - python3\n    - -m\n    - http.server\n    - "{port}"\n\n  health: /\n  grace: 20s\n',
    "flow": 'run: {argv: [python3, -m, http.server, "{port}"], health: /}\n',
    "flow over lines": 'run: {\n  argv: [python3, -m, http.server, "{port}"],\n  health: /\n}\n',
}
STAGE = "commit:\n  test: [make test]\n"


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
@pytest.mark.parametrize("after", ["", STAGE], ids=["last", "before another"])
def test_only_run_changes(run, after):
    text = f"{TOP}{run}" + (f"\n{after}" if after else "")
    held = held_document(text, Path("/demo/it's held"), component="hello", grace_s=7)
    found, own = parse_document(held.encode()), parse_document(text.encode())
    assert found.run.argv[:2] == ("/bin/sh", "-c")
    assert found.run.argv[2].startswith("""while [ -e '/demo/it'"'"'s held' ]; do sleep""")
    assert (found.run.argv[3:], found.run.health, found.run.grace_s) == (own.run.argv, own.run.health, 7)
    assert (found.commit, found.paths) == (own.commit, own.paths)
    assert held.startswith(TOP)
    assert held.endswith(after)


def test_a_document_that_is_none_is_refused_as_everywhere():
    with pytest.raises(BuildFault, match="config-invalid"):
        held_document("version: 2\n", Path("/held"), component="hello", grace_s=7)


def test_a_type_alone_gets_a_run_of_its_own():
    held = parse_document(held_document("version: 1\ntype: python\n", Path("/held"), component="hello", grace_s=7).encode())
    plain = make_plan(parse_document(b"version: 1\ntype: python\n"), repository="hello", enforced=(), most_s=60).run
    assert (held.type, held.run.argv[3:], held.run.health) == ("python", plain.argv, plain.health)
