"""What can be wrong with log bytes. Every error of this package is a `TlogError`; messages never hold key material."""

from __future__ import annotations

from enum import StrEnum, unique


class TlogError(ValueError):
    """Bytes, a proof or a signature of a log were refused."""


class MalformedVerifierKey(TlogError):
    """Not a verifier key of C2SP signed-note, or one whose key id is not that of its key."""


class MalformedNote(TlogError):
    """Not a signed note in its one spelling, or over a bound."""


class MalformedCheckpoint(TlogError):
    """A note text that is not a checkpoint of ours: origin, size, root, nothing else."""


class MalformedTile(TlogError):
    """A tile path, tile or entry bundle that is not of C2SP tlog-tiles."""


class MalformedProof(TlogError):
    """Proof bytes in any but the one spelling, or over a bound."""


class MalformedPolicy(TlogError):
    """Not a log policy file of C2SP tlog-policy with exactly one log."""


class MalformedEntry(TlogError):
    """Not the canonical bytes of a log entry, or an entry over its cap."""


class ProofMismatch(TlogError):
    """A well-formed proof that does not prove what it was given for."""


class HistoryForked(ProofMismatch):
    """A checkpoint that proves a key entry is no part of the checkpoint that it is shown against: `note` is the first, signed."""

    def __init__(self, detail: str, note: bytes) -> None:
        super().__init__(detail)
        self.note = note


class BadNoteSignature(TlogError):
    """A known key's signature does not verify: the whole note is refused."""


class UnknownLog(TlogError):
    """No signature by the expected log key, or the checkpoint names another origin."""


class QuorumNotMet(TlogError):
    """Too few witnesses of the policy cosigned the checkpoint."""


@unique
class OpeningFault(StrEnum):
    """Why an opening is none."""

    NO_SLOT = "no-slot"
    OTHER_COMMITMENT = "other-commitment"
    NOT_COMMITTED = "not-committed"
    BODY_MALFORMED = "body-malformed"
    OTHER_ORIGIN = "other-origin"
    OTHER_TIME = "other-time"
    DECOY = "decoy"
    HALF_OPEN = "half-open"
    PRIVATE_DIFFERS = "private-differs"
    PRIVATE_MALFORMED = "private-malformed"
    HEAD_DIFFERS = "head-differs"
    OTHER_LEAF = "other-leaf"
    NOT_LATER = "not-later"


class OpeningRefused(TlogError):
    """What should open a slot of a sealed leaf does not."""

    def __init__(self, fault: OpeningFault, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault


class MalformedHistory(TlogError):
    """Not a document of the log's `key` entries in its one spelling, or over a bound."""
