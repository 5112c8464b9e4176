"""Votes: ``https://pingee.internal/vote/v1``, signed by the reviewer's own Ed25519 key.

| member | demanded |
|---|---|
| subject | one, by gitCommit alone, equal to `revision`, else ``votes-stale`` |
| project, label | names as text, no control characters; compared by the policy |
| change | text: the change the revision belongs to |
| revision, tree | full git ids |
| value | -2 to 2 |
| at | RFC 3339 UTC, whole seconds: the voter's own word, not a trusted time |

Every member is required and no other is accepted. The voter is not named inside: whose key it is says who voted, and nobody's word can
change that. A person without pinned keys has no vote: ``votes-ineligible``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gatekeeper.model.facts import Vote
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.moment import Moment, render_moment
from gatekeeper.model.seal import seal
from gatekeeper.model.uris import VOTE
from gatekeeper.model.verified import Checked, Refusal

from .base64text import decode_standard
from .bundle import parse_bundle
from .errors import MalformedKey, MalformedStatement
from .signature import ed25519_key, signed_by
from .statement import Only, Part, UnfitStatement, encode_statement, open_statement

MAX_VALUE = 2


def vote_statement(
    *, project: str, change: str, revision: str, tree: str, label: str, value: int, at: Moment
) -> bytes:
    """The payload a reviewer signs: `pae(IN_TOTO_PAYLOAD, payload)` by their key, then `encode_bundle(payload, signature, key_hint=...)`."""
    return encode_statement(
        name=change,
        digest={"gitCommit": revision},
        predicate_type=VOTE,
        predicate={
            "project": project,
            "change": change,
            "revision": revision,
            "tree": tree,
            "label": label,
            "value": value,
            "at": render_moment(at),
        },
    )


def parse_vote_key(text: str) -> bytes:
    """The 32 bytes of a reviewer's key as the policy holds it (base64); raises `MalformedKey`."""
    try:
        raw = decode_standard(text)
    except ValueError as error:
        raise MalformedKey(f"a reviewer's key {error}") from error
    ed25519_key(raw)
    return raw


def verify_vote(data: bytes, keys: Mapping[str, Sequence[bytes]], *, person: str) -> Checked[Vote]:
    """Believe a vote as `person`'s, or say why not; `keys` is each person's pinned keys (32 bytes each).

    The bundle's key hint is not looked at: every key of this person is tried, and no other. Raises `MalformedBundle` or
    `MalformedStatement`.
    """
    bundle = parse_bundle(data)
    if bundle.certificate is not None:
        return Refusal("bad-signature", "a vote is signed by a reviewer's own key, not under a certificate")
    pinned = keys.get(person, ())
    if not pinned:
        return Refusal("votes-ineligible", "no key is pinned for this person")
    if not any(signed_by(bundle.envelope, ed25519_key(raw)) for raw in pinned):
        return Refusal("bad-signature", "the vote needs exactly one signature, by a key pinned for this person, over these bytes")
    try:
        statement = open_statement(bundle.envelope.payload_type, bundle.envelope.payload, predicates=(VOTE,), about=Only("gitCommit", None))
        vote = _read_vote(statement.predicate, voter=person)
    except UnfitStatement as error:
        return Refusal("votes-stale" if error.part is Part.SUBJECT else "provenance-predicate", error.detail)
    except FieldError as error:
        raise MalformedStatement(f"predicate {error}") from error
    if statement.subject != vote.revision:
        return Refusal("votes-stale", "the statement's subject is another revision than the vote's")
    return seal(vote, bundle.digest)


def _read_vote(fields: Fields, *, voter: str) -> Vote:
    vote = Vote(
        project=fields.text("project"),
        change=fields.text("change"),
        revision=fields.commit("revision"),
        tree=fields.commit("tree"),
        label=fields.text("label", max_length=64),
        value=fields.integer("value", minimum=-MAX_VALUE, maximum=MAX_VALUE),
        at=fields.moment("at"),
        voter=voter,
    )
    fields.done()
    return vote
