"""`pingee init`: write `.pipeline/config.yaml` for the repository it finds, or check one. Local and offline: no server, no build.

The builder's own parser reads what is written and what is checked, so the two cannot come to differ.
"""

from __future__ import annotations

import json
import os
import shlex
from argparse import Namespace
from pathlib import Path

from builder.fault import BuildFault
from builder.languages import HEALTH, LANGUAGES, OUTPUTS, UnknownLanguage, fill, parse_type
from builder.pipeline import FILE, GRACE_S, MAX_BYTES, ConfigInvalid, is_name, parse_document
from builder.plan import DEFAULT_TIMEOUT_S, Plan, make_plan

from .exits import Exit, Failure
from .output import print_json, print_pairs, safe, say

MOST_S = 24 * 3600
"""The longest stage that a document can ask for; what a builder allows is the builder's to say."""


def init(arguments: Namespace) -> Exit:
    """Write or check a repository's document."""
    directory = Path(arguments.directory)
    if not directory.is_dir():
        raise Failure(Exit.USAGE, f"{directory} is no directory; name the repository's own")
    if arguments.check:
        if arguments.type or arguments.component:
            raise Failure(Exit.USAGE, "--check reads the document that is there; --type and --component are for writing one")
        return _check(directory, arguments)
    return _write(directory, arguments)


def render_document(kind: str, component: str) -> str:
    """A document for a type: what it needs, and, commented out, what the type fills in."""
    language = parse_type(kind).language
    lists = {"build": fill(language.build, component), "test": fill(language.test, component)}
    return "\n".join(
        [
            "# How Pingee builds, tests and runs this repository. Commands run in a sandbox with this tree and no network.",
            "version: 1",
            f"component: {_quoted(component)}",
            f"type: {kind}",
            "",
            f"# What type {kind} stands for. Take the '#' away from what you want otherwise.",
            "#commit:",
            *(f"#  {name}: {json.dumps(commands)}" for name, commands in lists.items()),
            f"#  timeout: {DEFAULT_TIMEOUT_S // 60}m",
            "#artifact:",
            f"#  paths: {json.dumps(OUTPUTS)}",
            "#run:",
            f"#  argv: {json.dumps(fill(language.argv, component))}",
            f"#  health: {HEALTH}",
            f"#  grace: {GRACE_S}s",
            "",
        ]
    )


def find_types(directory: Path) -> dict[str, str]:
    """Types whose files lie there, each with the file that says so. Scripts and a Makefile beside a language's own file say nothing."""
    found = {}
    for name, language in LANGUAGES.items():
        file = next((file for pattern in language.found_by for file in sorted(directory.glob(pattern))), None)
        if file is not None:
            found[name] = str(file.relative_to(directory))
    strong = {name: file for name, file in found.items() if name not in {"shell", "make", "c"}}
    # A build tool's file says more than the sources that it builds.
    for tool, sources in (("maven", "java"), ("gradle", "java")):
        if tool in strong:
            strong.pop(sources, None)
    if strong:
        return strong
    weak = [name for name in ("c", "make", "shell") if name in found and (name != "c" or "make" in found)]
    return {name: found[name] for name in weak[:1]}


def _write(directory: Path, arguments: Namespace) -> Exit:
    file = directory / FILE
    if file.is_symlink() or file.exists():
        raise Failure(Exit.USAGE, f"{file} is there already and stays as it is; check it with: pingee init --check {directory}, or remove it first")
    kind, found = _type(directory, arguments.type)
    text = render_document(kind, _component(directory, arguments.component))
    plan = _plan(text.encode(), directory)
    file.parent.mkdir(exist_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644), "w", encoding="utf-8") as stream:
        stream.write(text)
    if arguments.output == "json":
        print_json({"apiVersion": "pingee/v1", "kind": "Pipeline", "file": str(file), "found": found, "type": kind, "component": plan.component})
    else:
        print(safe(file))
    say(f"wrote {file}: type {kind}, " + (f"because of {found}" if found else "as you said"))
    here = shlex.quote(str(directory))
    say(f"next: read it, commit it, and try it here: pingee-builder run {here} $(git -C {here} rev-parse HEAD) --no-submit")
    return Exit.OK


def _type(directory: Path, wanted: str | None) -> tuple[str, str | None]:
    if wanted is not None:
        try:
            parse_type(wanted)
        except UnknownLanguage as error:
            raise Failure(Exit.USAGE, f"--type {wanted!r} {error}") from None
        return wanted, None
    found = find_types(directory)
    if len(found) == 1:
        return next(iter(found.items()))
    if not found:
        raise Failure(Exit.USAGE, f"nothing in {directory} says what it is; say it with --type, one of {', '.join(sorted(LANGUAGES))}")
    seen = ", ".join(f"{name} ({file})" for name, file in found.items())
    raise Failure(Exit.USAGE, f"{directory} looks like {seen}; say which one builds it with --type")


def _component(directory: Path, wanted: str | None) -> str:
    name = directory.resolve().name.removesuffix(".git") if wanted is None else wanted
    if not is_name(name):
        raise Failure(Exit.USAGE, f"{name!r} is no name: lowercase letters, digits, '.', '_', '-', at most 64; give one with --component")
    return name


def _quoted(name: str) -> str:
    # `1`, `no` and `1e3` are names to us and something else to YAML.
    return name if name.isalpha() and name not in {"yes", "no", "on", "off", "true", "false", "null", "y", "n"} else json.dumps(name)


def _check(directory: Path, arguments: Namespace) -> Exit:
    file = directory / FILE
    try:
        if file.is_symlink():
            raise Failure(Exit.USAGE, f"{file} is a link; a builder reads a plain file of the commit only")
        with file.open("rb") as stream:
            plan = _plan(stream.read(MAX_BYTES + 1), directory)
    except FileNotFoundError:
        raise Failure(Exit.USAGE, f"there is no {file}; write one with: pingee init {directory}") from None
    except ConfigInvalid as error:
        problem = {"code": error.code, "detail": str(error), "file": str(file), "line": error.line, "key": error.key, "right": error.detail}
        raise Failure(Exit.USAGE, str(error), problem) from None
    except BuildFault as fault:
        raise Failure(Exit.USAGE, str(fault), {"code": fault.code, "detail": fault.sentence}) from None
    summary = _summary(plan)
    if arguments.output == "json":
        print_json({"apiVersion": "pingee/v1", "kind": "PipelineCheck", "ok": True, "file": str(file), **summary})
    else:
        print_pairs({name: "; ".join(value) if isinstance(value, list) else value for name, value in summary.items() if value})
    return Exit.OK


def _plan(data: bytes, directory: Path) -> Plan:
    return make_plan(parse_document(data), repository=directory.resolve().name, enforced=(), most_s=MOST_S)


def _summary(plan: Plan) -> dict[str, object]:
    """What a builder would do, without what release engineering adds."""
    return {
        "component": plan.component,
        "type": plan.type,
        "build": [step.command for step in plan.commit.steps if step.kind.value == "build"],
        "test": [step.command for step in plan.commit.steps if step.kind.value == "test"],
        "acceptance": [step.command for step in plan.acceptance.steps] if plan.acceptance else [],
        "artifact": list(plan.paths),
        "run": list(plan.run.argv),
        "health": plan.run.health,
    }
