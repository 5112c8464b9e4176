"""Orders that two different people sign: whose keys are pinned, and whether these two signatures are by two of them.

Key hints are not looked at. There are exactly two signatures: "two of three are good" is an answer that nobody can read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from gatekeeper.model.fields import Fields

from .dsse import UntrustedEnvelope, pae
from .signature import ed25519_key, signature_by
from .vote import parse_vote_key

SIGNERS: Final = 2
MAX_ORDER: Final = 4096
"""bytes of an order's envelope"""
MAX_LIFE_S: Final = 4 * 3600
"""seconds that an order may hold at most"""


def parse_people_keys(data: bytes, *, file: str) -> dict[str, tuple[bytes, ...]]:
    """Lines `NAME ed25519 BASE64`, one for each key; empty lines and those that begin with `#` are passed over. Raises `ValueError`.

    NAME is the person's name in the policy. One key under two names would be two people, so it is refused. `file` is what errors call it.
    """
    people: dict[str, tuple[bytes, ...]] = {}
    for number, line in enumerate(data.decode("utf-8").split("\n"), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 3 or words[1] != "ed25519":
            raise ValueError(f"{file}: line {number} is not NAME ed25519 BASE64")
        name, key = Fields({"name": words[0]}, f"/{number}").name("name"), parse_vote_key(words[2])
        if any(key in keys for keys in people.values()):
            raise ValueError(f"{file}: line {number} holds a key that stands there already")
        people[name] = (*people.get(name, ()), key)
    return people


def two_signers(envelope: UntrustedEnvelope, keys: Mapping[str, Sequence[bytes]]) -> tuple[str, str] | str:
    """The names of the two people who signed, ascending, or one sentence that says why they are not two."""
    if len(envelope.signatures) != SIGNERS:
        return f"the order has {len(envelope.signatures)} signatures, not {SIGNERS}"
    names = [_signer(envelope, signature, keys) for _, signature in envelope.signatures]
    people = sorted({name for name in names if name is not None})
    if None in names:
        return "a signature is not by a key that is pinned here, over these bytes"
    if len(people) != SIGNERS:
        return f"both signatures are by {people[0]}: two different people are needed"
    return people[0], people[1]


def _signer(envelope: UntrustedEnvelope, signature: bytes, keys: Mapping[str, Sequence[bytes]]) -> str | None:
    message = pae(envelope.payload_type, envelope.payload)
    for person, pinned in keys.items():
        if any(signature_by(signature, message, ed25519_key(raw)) for raw in pinned):
            return person
    return None
