"""`revocations.toml`: whose signatures count no longer, or not since a moment (decision rules, P3: `builder-revoked`).

[[revoked]]
builder = "https://ci.example/builder"            # exactly one of builder, certificate, run and key
from = 2026-11-21T10:00:00Z                       # may be left out: nothing that it signed counts, whenever it was received
reason = "its host was broken into"

| member | names |
|---|---|
| builder | a builder of `builders.toml`, to the letter |
| certificate | `sha256:` of the DER bytes of one run's certificate |
| run | `urn:pingee:run:PROJECT:COMMIT:RUN`, as a run's certificate has it; of a standing signer what its certificate or statement names |
| key | `sha256:` of a builder key's SubjectPublicKeyInfo (DER), or a person's key as `people.toml` has it |

`from` is compared with the time at which the intake received a statement, which is the only time of it that its signer did not choose. The file
is part of the signed policy, so it is always as readable as the policy itself; a repository without it revokes nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum, unique
from typing import Final

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.digest import Digest, MalformedDigest, digest_of, is_commit, parse_digest
from gatekeeper.model.facts import SignerIdentity
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.moment import Moment, render_moment
from gatekeeper.model.verified import Refusal

FILE: Final = "revocations.toml"
MAX_ROWS: Final = 2000
_CODE: Final = "builder-revoked"
_MAX_ID: Final = 512
_PERSONS: Final = "ed25519 "
_URN: Final = ("urn", "pingee", "run")


@unique
class Kind(StrEnum):
    """What a row names; its value is the member's name."""

    BUILDER = "builder"
    CERTIFICATE = "certificate"
    RUN = "run"
    KEY = "key"


@dataclass(frozen=True)
class Revocation:
    """One row: nothing by this signer counts that was received at `since` or later; None is always."""

    kind: Kind
    id: str
    since: Moment | None
    reason: str

    def holds(self, received_at: Moment) -> bool:
        """Whether it is about something that was received then."""
        return self.since is None or received_at >= self.since

    def __str__(self) -> str:
        since = "" if self.since is None else f" since {render_moment(self.since)}"
        return f"{self.kind.value} {self.id} is revoked{since}: {self.reason}"


@dataclass(frozen=True)
class Revocations:
    """All rows, by what they name."""

    rows: Mapping[tuple[Kind, str], Revocation] = field(default_factory=dict)

    @property
    def epoch(self) -> Digest:
        """A digest of what is revoked and since when: the same for two files that mean the same, whatever their order and their reasons."""
        meaning = sorted([row.kind.value, row.id, "" if row.since is None else render_moment(row.since)] for row in self.rows.values())
        return digest_of(encode_canonical(meaning))

    def doubt(self, signer: SignerIdentity, received_at: Moment, *, project: str) -> Refusal | None:
        """The refusal of what this signer signed, where it is revoked. What it signed under is looked for as a certificate and as a key.

        `project` is the artifact's: where the signer names none, the intake bound it to that one.
        """
        under = str(signer.certificate)
        names = [(Kind.BUILDER, signer.builder_id), (Kind.CERTIFICATE, under), (Kind.KEY, under)]
        if signer.commit is not None and signer.run is not None:
            names.append((Kind.RUN, run_name(signer.project or project, signer.commit, signer.run)))
        return self._first(names, received_at)

    def doubt_run(self, builder_id: str, name: str, at: Moment) -> Refusal | None:
        """The refusal of a run by its `run_name`, whatever it signs with or signed."""
        return self._first(((Kind.BUILDER, builder_id), (Kind.RUN, name)), at)

    def standing_keys(self, keys: Iterable[bytes], received_at: Moment) -> tuple[bytes, ...]:
        """Those of a person's keys (32 bytes each) that count for what was received then."""
        return tuple(key for key in keys if self._first(((Kind.KEY, key_line(key)),), received_at) is None)

    def standing_people(self, people: Mapping[str, Iterable[bytes]], at: Moment) -> dict[str, tuple[bytes, ...]]:
        """The keys that count for what these people order then."""
        return {name: self.standing_keys(keys, at) for name, keys in people.items()}

    def _first(self, names: Iterable[tuple[Kind, str]], at: Moment) -> Refusal | None:
        for name in names:
            row = self.rows.get(name)
            if row is not None and row.holds(at):
                return Refusal(_CODE, str(row))
        return None


def run_name(project: str, commit: str, run: str) -> str:
    """A run as a row names it."""
    return ":".join((*_URN, project, commit, run))


def key_line(key: bytes) -> str:
    """A person's key as `people.toml` has it."""
    return f"{_PERSONS}{base64.b64encode(key).decode()}"


def read_revocations(fields: Fields) -> Revocations:
    """Read the file's top level; raises `FieldError`."""
    rows: dict[tuple[Kind, str], Revocation] = {}
    for item in fields.optional("revoked", lambda key: list(fields.objects(key, max_items=MAX_ROWS))) or ():
        row = _read_row(item)
        if (row.kind, row.id) in rows:
            raise item.error(row.kind.value, "stands in two rows; which of them holds would be chance")
        rows[row.kind, row.id] = row
    fields.done()
    return Revocations(rows)


def misses(row: Revocation, builders: Container[str], people_keys: Container[str]) -> str | None:
    """Why a row can hit nobody, where that can be told: a name that the policy does not know is misspelt."""
    if row.kind is Kind.BUILDER and row.id not in builders:
        return f"names the unknown builder {row.id}"
    if row.id.startswith(_PERSONS) and row.id not in people_keys:  # no other kind of row begins so
        return f"names a key that nobody in people.toml has: {row.id}"
    return None


def _read_row(fields: Fields) -> Revocation:
    kinds = [kind for kind in Kind if fields.has(kind.value)]
    if len(kinds) != 1:
        raise FieldError(fields.pointer, "must have exactly one of " + ", ".join(Kind))
    row = Revocation(kinds[0], _read_id(fields, kinds[0]), fields.optional("from", lambda key: _read_time(fields, key)), fields.text("reason"))
    fields.done()
    return row


def _read_id(fields: Fields, kind: Kind) -> str:
    text = fields.text(kind.value, max_length=_MAX_ID)
    if kind is Kind.RUN and not _is_run(text):
        raise fields.error(kind.value, "must be urn:pingee:run:PROJECT:COMMIT:RUN, with the full commit")
    if kind is Kind.CERTIFICATE or (kind is Kind.KEY and not text.startswith(_PERSONS)):
        try:
            parse_digest(text)
        except MalformedDigest as error:
            raise fields.error(kind.value, str(error)) from error
    return text


def _is_run(urn: str) -> bool:
    parts = urn.split(":")
    return len(parts) == 6 and tuple(parts[:3]) == _URN and is_commit(parts[4]) and all(parts) and not any(map(str.isspace, urn))


def _read_time(fields: Fields, key: str) -> Moment:
    value = fields.raw(key)
    # TOML reads a time without quotation marks, and with any offset; one spelling is enough for everybody.
    if not isinstance(value, datetime) or value.utcoffset() != timedelta(0) or value.microsecond:
        raise fields.error(key, "must be a time such as 2026-11-21T10:04:05Z, in UTC and without quotation marks")
    return Moment(value.astimezone(UTC))
