"""Log policy files of C2SP tlog-policy: which log is believed, and whose cosignatures it needs.

Narrower than the specification in three ways: exactly one log (a verifier of ours follows one origin), UTF-8, and no key is both log's and
witness's.
"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass
from typing import Final

from .checkpoint import VerifiedCheckpoint, open_checkpoint
from .errors import MalformedPolicy, MalformedVerifierKey, QuorumNotMet
from .note import Note, parse_note, verify_signature
from .signature import COSIGNATURE_V1, ED25519, VerifierKey, encode_vkey, parse_vkey

MAX_POLICY: Final = 64 * 1024
MAX_MEMBERS: Final = 64
"""Witnesses, and groups, in one file."""
NONE: Final = "none"


@dataclass(frozen=True)
class Witness:
    """A cosigner. `name` has no meaning outside the file; `url` is its submission prefix."""

    name: str
    key: VerifierKey
    url: str | None = None


@dataclass(frozen=True)
class Group:
    """Met when `threshold` of its members (witnesses, or groups defined before it) are."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class LogPolicy:
    """What a verifier is installed with. `quorum` names a witness or a group, or is `none`."""

    log: VerifierKey
    url: str | None = None
    witnesses: tuple[Witness, ...] = ()
    groups: tuple[Group, ...] = ()
    quorum: str = NONE
    also: tuple[VerifierKey, ...] = ()
    """further keys of the log that were followed (`keyring`); never in the file"""

    def __post_init__(self) -> None:
        if any(key.type != ED25519 or key.name != self.log.name for key in (self.log, *self.also)):
            raise MalformedPolicy("a log's key has type 1, and all keys of a log have its name")
        if max(len(self.witnesses), len(self.groups)) > MAX_MEMBERS:
            raise MalformedPolicy(f"a policy has at most {MAX_MEMBERS} witnesses and as many groups")
        _check_names(self)

    def quorum_met(self, note: Note) -> frozenset[str]:
        """The names of the witnesses that cosigned; raises `BadNoteSignature` for a bad one, `QuorumNotMet` for too few."""
        met = {witness.name for witness in self.witnesses if _cosigned(note, witness.key)}
        cosigned = frozenset(met)
        for group in self.groups:
            if sum(member in met for member in group.members) >= group.threshold:
                met.add(group.name)
        if self.quorum != NONE and self.quorum not in met:
            raise QuorumNotMet(f"the quorum {self.quorum} did not cosign the checkpoint")
        return cosigned


def open_cosigned(note_bytes: bytes, policy: LogPolicy) -> VerifiedCheckpoint:
    """`open_checkpoint` with the policy's log key or one that was followed, then its quorum."""
    opened = open_checkpoint(note_bytes, policy.log, *policy.also)
    policy.quorum_met(parse_note(note_bytes))
    return opened


def parse_log_policy(data: bytes) -> LogPolicy:
    """Read a policy file; raises `MalformedPolicy` with the number of the line at fault."""
    if len(data) > MAX_POLICY:
        raise MalformedPolicy("a policy file has at most 64 KiB")
    if re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", data) or (data and not data.endswith(b"\n")):
        raise MalformedPolicy("a policy file has lines ending in a newline and no control characters but tabs")
    draft = _Draft()
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            words = re.split(r"[ \t]+", line.decode("utf-8").strip(" \t"))
            if words[0] and not words[0].startswith("#"):
                draft.read(words)
        except (MalformedPolicy, MalformedVerifierKey) as error:
            raise MalformedPolicy(f"line {number}: {error}") from error
        except UnicodeDecodeError:
            raise MalformedPolicy(f"line {number}: not UTF-8") from None
    return draft.done()


def encode_log_policy(policy: LogPolicy) -> bytes:
    """A file that `parse_log_policy` reads as the same policy, but for keys that were followed."""
    lines = [_words("log", encode_vkey(policy.log), policy.url)]
    lines += [_words("witness", witness.name, encode_vkey(witness.key), witness.url) for witness in policy.witnesses]
    lines += [_words("group", group.name, str(group.threshold), *group.members) for group in policy.groups]
    return "".join(line + "\n" for line in [*lines, _words("quorum", policy.quorum)]).encode("utf-8")


class _Draft:
    def __init__(self) -> None:
        self.log: tuple[VerifierKey, str | None] | None = None
        self.witnesses: list[Witness] = []
        self.groups: list[Group] = []
        self.quorum: str | None = None

    def read(self, words: list[str]) -> None:
        match words:
            case ["log", vkey, *url] if len(url) <= 1:
                if self.log is not None:
                    raise MalformedPolicy("a second log; this verifier follows one")
                self.log = parse_vkey(vkey), (url[0] if url else None)
            case ["witness", name, vkey, *url] if len(url) <= 1:
                self.witnesses.append(Witness(self.new(name), parse_vkey(vkey), url[0] if url else None))
            case ["group", name, threshold, *members] if members:
                count = {"any": "1", "all": str(len(members))}.get(threshold, threshold)
                if re.fullmatch(r"[1-9][0-9]{0,3}", count, re.ASCII) is None:
                    raise MalformedPolicy("a group's threshold is all, any or a number")
                self.known(members)
                self.groups.append(Group(self.new(name), int(count), tuple(members)))
            case ["quorum", name]:
                if self.quorum is not None:
                    raise MalformedPolicy("a second quorum")
                self.known([name] if name != NONE else [])
                self.quorum = name
            case _:
                raise MalformedPolicy("not a log, witness, group or quorum line")

    def names(self) -> Set[str]:
        return {witness.name for witness in self.witnesses} | {group.name for group in self.groups}

    def new(self, name: str) -> str:
        if name == NONE or name in self.names():
            raise MalformedPolicy("the name is taken")
        return name

    def known(self, names: list[str]) -> None:
        if not set(names) <= self.names():
            raise MalformedPolicy("a name is used before it is defined")

    def done(self) -> LogPolicy:
        if self.log is None or self.quorum is None:
            raise MalformedPolicy("one log line and one quorum line are needed")
        return LogPolicy(self.log[0], self.log[1], tuple(self.witnesses), tuple(self.groups), self.quorum)


def _check_names(policy: LogPolicy) -> None:
    if any(witness.key.type != COSIGNATURE_V1 for witness in policy.witnesses):
        raise MalformedPolicy("a witness's key has type 4")
    if len({witness.key.public for witness in policy.witnesses}) != len(policy.witnesses):
        raise MalformedPolicy("two witnesses have one key")
    if {key.public for key in (policy.log, *policy.also)} & {witness.key.public for witness in policy.witnesses}:
        raise MalformedPolicy("a key that signs notes never cosigns")
    names = [NONE, *(witness.name for witness in policy.witnesses)]
    members: list[str] = []
    for group in policy.groups:
        if not 1 <= group.threshold <= len(group.members):
            raise MalformedPolicy("a group's threshold lies between 1 and the number of its members")
        if not set(group.members) <= set(names[1:]):
            raise MalformedPolicy("a group's member is not defined before it")
        names.append(group.name)
        members += group.members
    if len(set(names)) != len(names) or not all(re.fullmatch(r"\S{1,200}", name) for name in names):
        raise MalformedPolicy("a name is taken or is no word")
    # Otherwise one witness could count twice towards a quorum.
    if len(set(members)) != len(members):
        raise MalformedPolicy("a name is in two groups")
    if policy.quorum not in names:
        raise MalformedPolicy("the quorum is not defined")


def _cosigned(note: Note, key: VerifierKey) -> bool:
    lines = [signature for signature in note.signatures if signature.by(key)]
    for line in lines:
        verify_signature(key, note.text, line)
    return bool(lines)


def _words(*words: str | None) -> str:
    return " ".join(word for word in words if word is not None)
