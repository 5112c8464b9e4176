"""One entry of every kind, as the golden files in tests/assets/log have them. Nothing here is by chance: the same bytes on every machine."""

import base64
from datetime import date

from gatekeeper.model.decision import Mode, Purpose, Verdict
from gatekeeper.model.digest import digest_of
from gatekeeper.model.moment import later, parse_moment
from gatekeeper.tlog.entry import (
    MAX_PRIVATE,
    AcknowledgementEntry,
    AdoptEntry,
    BreakglassCloseEntry,
    BreakglassOpenEntry,
    Cause,
    Change,
    ConfigEntry,
    DecisionEntry,
    DoorkeeperMark,
    ExemptionEntry,
    FreezeEntry,
    HoldEntry,
    Intake,
    KeyEntry,
    KeyUse,
    LiftEntry,
    OpenDecoysEntry,
    OpenEntry,
    OriginEntry,
    OutcomeEntry,
    OverrideEntry,
    Reference,
    ReservationEntry,
    RevocationEntry,
    Revoked,
    RolePeople,
    SealedEntry,
    StopEntry,
    WindowEntry,
    WitnessChangeEntry,
    encode_entry,
    hidden_text,
    pseudonym,
)
from gatekeeper.tlog.sealed import commitment, make_decoy, seal_entry, seal_leaf

ORIGIN = "production.example/log/2026"
AT = parse_moment("2026-11-21T10:04:05Z")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ALICE, BOB, CAROL = sorted(pseudonym(bytes((n,)) * 32, "https://id.example", name) for n, name in enumerate(("alice", "bob", "carol")))
REASON = hidden_text(bytes(32), "the disk was full")


def digests(*names: str) -> tuple:
    return tuple(sorted(digest_of(name.encode()) for name in names))


def D(name: str):
    return digest_of(name.encode())


def common(number: int) -> dict:
    return {"entry_id": f"{number:032x}", "origin": ORIGIN, "at": AT, "config": COMMIT}


DECISION = DecisionEntry(
    **common(3),
    ping_id="f" * 32,
    landing=None,
    purpose=Purpose.DEPLOY,
    mode=Mode.ENFORCE,
    requester=ALICE,
    on_behalf_of=None,
    people=RolePeople((ALICE,), (ALICE,), (BOB, CAROL)),
    environment="production",
    component="hello",
    artifact=D("artifact"),
    candidate_config=COMMIT,
    target=("web-1", "web-2"),
    subjects=digests("out/greeter", "static/index.html"),
    verdict=Verdict.ALLOW,
    reasons=(),
    policy=D("policy"),
    trusted_root=D("root"),
    evidence=digests("provenance", "tests", "vote"),
    statement=D("statement"),
    not_after=parse_moment("2026-11-21T10:14:05Z"),
    supersedes=Reference(ORIGIN, 1),
)
_DEPLOY = (
    OriginEntry(
        **(common(0) | {"config": None}),
        cause=Cause.FIRST,
        previous=None,
        heads=None,
        sealed_slots=4,
        tick=0,
        who=(),
        reason=None,
    ),
    ConfigEntry(**common(1), who=(ALICE, BOB), previous=None, commit=COMMIT, digest=D("config")),
    Intake(
        **common(2),
        artifact=D("artifact"),
        manifest=D("manifest"),
        builder="https://ci.example/builder",
        certificate=D("certificate"),
        subjects=digests("a", "b"),
    ),
    DECISION,
    OutcomeEntry(
        **common(4),
        of=Reference(ORIGIN, 3),
        state="deployed",
        lease=digests("lease"),
        applied=digests("artifact"),
        doorkeeper=(DoorkeeperMark("web-1", 4, "— web-1.example " + base64.b64encode(bytes(76)).decode()),),
    ),
    OverrideEntry(
        **common(5),
        who=(ALICE, BOB),
        target="web-1",
        digest=D("artifact"),
        order=D("order"),
        incident=hidden_text(bytes(32), "INC-1"),
        applied_at=AT,
        record=D("record"),
    ),
    AdoptEntry(**common(6), who=ALICE, environment="production", component="hello", running=digests("old"), candidate_config=COMMIT),
    KeyEntry(
        **common(7),
        who=(ALICE, BOB),
        use=KeyUse.RECEIPT,
        old="MFkwEwYHKoZIzj0CAQ==",
        new="MFkwEwYHKoZIzj0DAQ==",
        since=AT,
        until=parse_moment("2026-12-21T10:04:05Z"),
    ),
    WitnessChangeEntry(**common(8), who=(ALICE, BOB), policy=D("witnesses"), fail_open=True, reason=REASON),
)

_SPAN = {"who": ALICE, "environment": "production", "component": "hello", "since": AT, "until": later(AT, seconds=3600), "reason": REASON}
_PEOPLE = (
    FreezeEntry(**common(9) | _SPAN | {"component": None}, change=Change.BEGIN),
    WindowEntry(**common(10) | _SPAN, change=Change.BEGIN),
    HoldEntry(**common(11) | _SPAN | {"until": None}, change=Change.BEGIN),
    ReservationEntry(**common(12) | _SPAN, change=Change.BEGIN),
    StopEntry(**common(13) | _SPAN, change=Change.END),
    AcknowledgementEntry(**common(14), who=ALICE, ping_id="f" * 32, of=Reference(ORIGIN, 3), code="rolled-back-change", reason=REASON),
    ExemptionEntry(
        **common(15),
        who=(ALICE, BOB),
        change=Change.BEGIN,
        rule="soak-time",
        environment="production",
        component="hello",
        until=later(AT, seconds=86400),
        reason=REASON,
    ),
    BreakglassOpenEntry(
        **common(16),
        who=(ALICE, BOB),
        environment="production",
        component="hello",
        artifact=D("artifact"),
        skips=("tests-missing", "votes-missing"),
        not_after=later(AT, seconds=600),
        incident=hidden_text(bytes(32), "INC-2"),
        reason=REASON,
    ),
    BreakglassCloseEntry(**common(17), of=Reference(ORIGIN, 16), who=CAROL, evidence=digests("tests", "vote"), reason=REASON),
    RevocationEntry(**common(18), who=ALICE, what=Revoked.BUILDER, id="https://ci.example/builder", since=AT, until=None, reason=REASON),
)

TICK = parse_moment("2026-11-21T10:04:06Z")
HORIZON = date(2027, 12, 31)
SEED = bytes(range(32))
"""of the decoys of 2026-11-21"""


def fixed(number: int) -> bytes:
    """32 bytes that stand for random ones."""
    return bytes((number,)) * 32


def sealed_in(entry, number: int, *, at=TICK):
    """A slot for an entry, with r and rp that follow from `number`."""
    return seal_entry(encode_entry(entry, cap=MAX_PRIVATE), at=at, r=fixed(2 * number), rp=fixed(2 * number + 1))


def decoy(slot: int, *, origin=ORIGIN, at=TICK):
    return make_decoy(SEED, origin=origin, at=at, slot=slot)


def leaf_of(*slots, number: int = 19, origin=ORIGIN, at=TICK) -> SealedEntry:
    return seal_leaf(slots, entry_id=f"{number:032x}", origin=origin, at=at, open_by=HORIZON)


def opened(opening, of: Reference, *, number: int, whole: bool = True, **changes) -> OpenEntry:
    """An `open` entry for a slot: whole, or its head alone."""
    own = {
        "of": of,
        "commitment": commitment(opening.r, of.origin, opening.body),
        "r": opening.r,
        "body": opening.body,
        "rp": opening.rp if whole else None,
        "private": opening.private if whole else None,
    }
    return OpenEntry(**common(number) | own | changes)


HELD = HoldEntry(**common(0xFACE) | _SPAN | {"until": None}, change=Change.BEGIN)
HIDDEN = DecisionEntry(**(vars(DECISION) | {"entry_id": f"{0xBEEF:032x}", "supersedes": None}))
# Two decisions at one tick, and two decoys.
SLOTS = (sealed_in(HIDDEN, 1), decoy(1), sealed_in(HELD, 2), decoy(3))
LEAF = leaf_of(*SLOTS)
_SEALING = (
    LEAF,
    opened(SLOTS[0], Reference(ORIGIN, 19, 0), number=20),
    OpenDecoysEntry(**common(21) | {"at": parse_moment("2028-01-01T00:00:00Z")}, of_origin=ORIGIN, day=TICK.date(), seed=SEED),
    LiftEntry(**common(22), who=(ALICE, BOB), embargo="e" * 32, opens=(Reference(ORIGIN, 19, 0),), reason=REASON),
)
SAMPLES = (*_DEPLOY, *_PEOPLE, *_SEALING)
"""In the order of their entry ids, which is that of the leaves of the golden tree; new ones go to its end."""
