"""The repository's own document, `.pipeline/config.yaml`, read strictly.

PyYAML's SafeLoader finds tokens and plain types; everything that lets two readers differ is refused before: duplicate keys, anchors,
aliases, tags, a second document, unknown keys, more than 64 KiB, depth over 8, anything that is not UTF-8. Every error names file,
line, key and what would be right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn

import yaml

from .fault import BuildFault

FILE: Final = ".pipeline/config.yaml"
MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 8
MAX_COMMANDS: Final = 64
MAX_PATHS: Final = 256
GRACE_S: Final = 10

RESERVED: Final = frozenset({"services", "matrix", "cache", "requires"})

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_DURATION = re.compile(r"([1-9][0-9]{0,5})(s|m|h)")
_HEALTH = re.compile(r"/[!-~]{0,255}")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_TAG = "tag:yaml.org,2002:"


def is_name(text: str) -> bool:
    """Whether a text is a name of ours, as `gatekeeper.model.fields` reads it."""
    return _NAME.fullmatch(text) is not None and ".." not in text


class ConfigInvalid(BuildFault):
    """The document does not parse or contradicts itself. `key` is dotted (`commit.timeout`), `line` counts from 1."""

    def __init__(self, line: int, key: str, detail: str) -> None:
        where = f"{FILE} line {line}" + (f", {key}" if key else "")
        super().__init__("config-invalid", f"{where}: {detail}")
        self.file = FILE
        self.line = line
        self.key = key
        self.detail = detail


@dataclass(frozen=True)
class StageDeclared:
    """One stage as written; None means that the document leaves it to the type's defaults."""

    build: tuple[str, ...] | None
    test: tuple[str, ...] | None
    timeout_s: int | None


@dataclass(frozen=True)
class RunDeclared:
    """How the artifact is started at its target, and when it counts as healthy."""

    argv: tuple[str, ...]
    health: str
    grace_s: int


@dataclass(frozen=True)
class RunWritten:
    """The same as written; None means that the document leaves it to the type's defaults."""

    argv: tuple[str, ...] | None
    health: str | None
    grace_s: int


@dataclass(frozen=True)
class Document:
    """The parsed document, version 1. With a type it may leave out everything else; without one, artifact and run are there."""

    component: str | None
    type: str | None
    commit: StageDeclared | None
    acceptance: StageDeclared | None
    paths: tuple[str, ...] | None
    run: RunWritten
    lines: Mapping[str, int] = field(compare=False, repr=False)

    def wrong(self, key: str, detail: str) -> ConfigInvalid:
        """What is wrong with a key, at its line or at that of the key which should hold it."""
        where = key
        while where and where not in self.lines:
            where = where.rpartition(".")[0]
        return ConfigInvalid(self.lines.get(where, 1), key, detail)


def parse_document(data: bytes) -> Document:
    """Read the document; raise `ConfigInvalid` for everything that is not exactly version 1."""
    top = _Member(_compose(data), "").mapping()
    if not top.members or next(iter(top.members)) != "version":
        raise ConfigInvalid(1, "version", "the first key must be 'version: 1'")
    version = top.member("version")
    if version.scalar("int", "the number 1") != "1":
        version.fail("this builder reads version 1 only; write 'version: 1'")
    component = top.optional("component")
    kind = top.optional("type")
    commit = top.optional("commit")
    acceptance = top.optional("acceptance")
    # A type has all that is left out here; without one, this is where it must stand.
    find = _Mapping.optional if kind else _Mapping.member
    artifact, run = find(top, "artifact"), find(top, "run")
    document = Document(
        component=component.name() if component else None,
        type=kind.name() if kind else None,
        commit=_stage(commit, build=True) if commit else None,
        acceptance=_stage(acceptance, build=False) if acceptance else None,
        paths=_paths(artifact.mapping(), find) if artifact else None,
        run=_run(run.mapping(), find) if run else RunWritten(None, None, GRACE_S),
        lines=top.lines(),
    )
    top.done()
    return document


def _stage(member: _Member, *, build: bool) -> StageDeclared:
    stage = member.mapping()
    commands = stage.optional("build") if build else None
    test = stage.optional("test")
    timeout = stage.optional("timeout")
    declared = StageDeclared(
        build=commands.commands() if commands else None,
        test=test.commands() if test else None,
        timeout_s=timeout.seconds() if timeout else None,
    )
    stage.done()
    return declared


def _paths(artifact: _Mapping, find: Find) -> tuple[str, ...] | None:
    paths = find(artifact, "paths")
    found = None if paths is None else tuple(item.path() for item in paths.items(MAX_PATHS))
    artifact.done()
    return found


def _run(run: _Mapping, find: Find) -> RunWritten:
    argv, health, grace = find(run, "argv"), find(run, "health"), run.optional("grace")
    path = health.text(max_length=256) if health else None
    if health and path is not None and _HEALTH.fullmatch(path) is None:
        health.fail("must be a path such as /healthz")
    written = RunWritten(
        argv=tuple(item.text(max_length=1024) for item in argv.items(64)) if argv else None,
        health=path,
        grace_s=grace.seconds(most=600) if grace else GRACE_S,
    )
    run.done()
    return written


class _Member:
    """One node of the document with the key that leads to it."""

    def __init__(self, node: yaml.Node, key: str) -> None:
        self.node = node
        self.key = key

    def fail(self, detail: str) -> NoReturn:
        raise ConfigInvalid(self.node.start_mark.line + 1, self.key, detail)

    def scalar(self, kind: str, wanted: str) -> str:
        """The text of a scalar of one YAML type; `yes`, `1` and `1:30` are no strings in YAML, so they must be quoted."""
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag != _TAG + kind:
            hint = "; put it in quotes" if isinstance(self.node, yaml.ScalarNode) and kind == "str" and self.node.value else ""
            self.fail(f"must be {wanted}{hint}")
        value: str = self.node.value
        return value

    def text(self, *, max_length: int, lines: bool = False) -> str:
        value = self.scalar("str", "a string")
        if not 1 <= len(value) <= max_length:
            self.fail(f"must have 1 to {max_length} characters")
        allowed = "\n\t" if lines else ""
        if any((ord(c) < 0x20 and c not in allowed) or 0x7F <= ord(c) < 0xA0 for c in value):
            self.fail("holds a control character")
        return value

    def name(self) -> str:
        value = self.text(max_length=64)
        if not is_name(value):
            self.fail("must be a name: lowercase letters, digits, '.', '_', '-', at most 64")
        return value

    def seconds(self, most: int = 24 * 3600) -> int:
        match = _DURATION.fullmatch(self.text(max_length=16))
        if match is None:
            self.fail("must be a duration such as 90s, 5m or 1h")
        value = int(match[1]) * _SECONDS[match[2]]
        if value > most:
            self.fail(f"must be at most {most}s")
        return value

    def path(self) -> str:
        """A relative path in one spelling; a directory may end with one slash."""
        value = self.text(max_length=200)
        if value.startswith("/") or any(part in {"", ".", "..", ".git"} for part in value.removesuffix("/").split("/")) or "\\" in value:
            self.fail("must be a path inside the workspace, without '.', '..', '.git', '\\' or empty parts, such as out/greeter or static/")
        return value.removesuffix("/")

    def items(self, most: int) -> list[_Member]:
        if not isinstance(self.node, yaml.SequenceNode):
            self.fail("must be a list, such as [one, two]")
        if not 1 <= len(self.node.value) <= most:
            self.fail(f"must have 1 to {most} items")
        return [_Member(node, f"{self.key}[{number}]") for number, node in enumerate(self.node.value)]

    def commands(self) -> tuple[str, ...]:
        return tuple(item.command() for item in self.items(MAX_COMMANDS))

    def command(self) -> str:
        value = self.text(max_length=4096, lines=True)
        if not value.strip():
            self.fail("must be a command")
        return value

    def mapping(self) -> _Mapping:
        if not isinstance(self.node, yaml.MappingNode):
            self.fail("must be a mapping, one 'key: value' a line")
        return _Mapping(self.node, self.key)


class _Mapping:
    """A mapping whose keys are asked for by name; `done` refuses what nobody asked for."""

    def __init__(self, node: yaml.MappingNode, key: str) -> None:
        self.members: dict[str, _Member] = {}
        self._line = node.start_mark.line + 1
        self._key = key
        self._asked: set[str] = set()
        for key_node, value in node.value:
            name = _Member(key_node, key).text(max_length=64)
            if name in self.members:
                raise ConfigInvalid(key_node.start_mark.line + 1, self._at(name), "this key stands twice; keep one")
            if name in RESERVED:
                raise ConfigInvalid(key_node.start_mark.line + 1, self._at(name), "is a reserved word, not yet supported; remove it")
            self.members[name] = _Member(value, self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._key}.{name}" if self._key else name

    def optional(self, name: str) -> _Member | None:
        self._asked.add(name)
        return self.members.get(name)

    def lines(self) -> dict[str, int]:
        """The line of every key of this mapping and of those in it."""
        found = {}
        for member in self.members.values():
            found[member.key] = member.node.start_mark.line + 1
            if isinstance(member.node, yaml.MappingNode):
                found |= _Mapping(member.node, member.key).lines()
        return found

    def member(self, name: str) -> _Member:
        found = self.optional(name)
        if found is None:
            raise ConfigInvalid(self._line, self._at(name), "is missing")
        return found

    def done(self) -> None:
        for name, member in self.members.items():
            if name not in self._asked:
                known = ", ".join(sorted(self._asked))
                raise ConfigInvalid(member.node.start_mark.line + 1, member.key, f"is not a key of this document (known here: {known})")


Find = Callable[[_Mapping, str], _Member | None]
"""How a key is asked for: as one that may be missing, or as one that must be there."""


def _compose(data: bytes) -> yaml.Node:
    if len(data) > MAX_BYTES:
        raise ConfigInvalid(1, "", f"is larger than {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigInvalid(data.count(b"\n", 0, error.start) + 1, "", "is not UTF-8; save it as UTF-8") from None
    if text.startswith("\ufeff"):
        raise ConfigInvalid(1, "", "starts with a byte order mark; save it as UTF-8 without one")
    try:
        _refuse_indirection(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigInvalid(mark.line + 1 if mark else 1, "", f"is not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigInvalid(1, "", f"is not YAML: {getattr(error, 'reason', 'it holds a character that YAML forbids')}") from None
    if node is None:
        raise ConfigInvalid(1, "version", "the document is empty; the first key must be 'version: 1'")
    return node


def _refuse_indirection(text: str) -> None:
    # On events, before the composer: it resolves aliases and recurses as deep as the document does.
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise ConfigInvalid(line, "", "a second document begins; keep one")
            if event.tags or event.version:
                raise ConfigInvalid(line, "", "a YAML directive stands here; remove it")
        elif isinstance(event, yaml.AliasEvent):
            raise ConfigInvalid(line, "", "an alias (*name) stands here; write the value out")
        elif isinstance(event, yaml.NodeEvent):
            if event.anchor is not None:
                raise ConfigInvalid(line, "", "an anchor (&name) stands here; remove it")
            if getattr(event, "tag", None) is not None:
                raise ConfigInvalid(line, "", "a tag (!name) stands here; remove it")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ConfigInvalid(line, "", f"is nested deeper than {MAX_DEPTH}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
