"""Row 23: two good bundles of one identity about one artifact, and every mixture of their parts, each refused for what does not fit.

Class 1 of the attack matrix: a signature, a certificate, a log entry, its promise or a timestamp that is genuine and belongs to something else.
"""

import copy
import itertools
import json

import pytest

from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.verify.attestation import Artifact, Keyless, Pinned, verify_attestation
from gatekeeper.verify.checks import Outcome
from gatekeeper.verify.managedkey import parse_managed_key
from gatekeeper.verify.sigstoreroot import parse_sigstore_root
from tests.fakes import foreign_bundles
from tests.fakes.sigstore_instance import ARTIFACT, IDENTITY, ISSUER, NOW, Instance, new_key, statement

PARTS = ("entry", "promise", "timestamp", "certificate", "signature", "payload")
INSTANCE = Instance()
ROOT = parse_sigstore_root(INSTANCE.pinned)
ONE_KEY = new_key()
OTHER = statement(predicate={"another": 1})
PAIRS = {
    "two runs": (INSTANCE.bundle(), INSTANCE.bundle(OTHER, seconds=30)),
    "two runs in one second": (INSTANCE.bundle(), INSTANCE.bundle(OTHER)),
    "one key certified twice": (INSTANCE.bundle(key=ONE_KEY), INSTANCE.bundle(OTHER, key=ONE_KEY, seconds=30)),
}
FORMS = ("whole", "without timestamp", "without promise")


def part(bundle: dict, name: str) -> dict:
    """The members that are the part, in the objects that hold them."""
    material = bundle["verificationMaterial"]
    entry, envelope = material["tlogEntries"][0], bundle["dsseEnvelope"]
    holder, names = {
        "entry": (entry, ("logIndex", "logId", "kindVersion", "inclusionProof", "canonicalizedBody")),
        "promise": (entry, ("inclusionPromise", "integratedTime")),
        "timestamp": (material, ("timestampVerificationData",)),
        "certificate": (material, ("certificate",)),
        "signature": (envelope, ("signatures",)),
        "payload": (envelope, ("payload",)),
    }[name]
    return {"holder": holder, "members": {key: holder[key] for key in names if key in holder}}


def without(bundle: dict, name: str) -> dict:
    found = copy.deepcopy(bundle)
    if name != "whole":
        there = part(found, name.removeprefix("without "))
        for key in there["members"]:
            del there["holder"][key]
    return found


def splice(bundle: dict, taken: tuple[str, ...], other: dict) -> dict:
    mixed = copy.deepcopy(bundle)
    for name in taken:
        part(mixed, name)["holder"].update(copy.deepcopy(part(other, name)["members"]))
    return mixed


def verify(bundle: dict):
    return verify_attestation(json.dumps(bundle).encode(), Keyless(IDENTITY, ISSUER, ROOT), Artifact({"sha256": ARTIFACT}), at=NOW)


def fault_of(report) -> tuple[str, str]:
    assert isinstance(report.result, Refusal)
    (check,) = [check for check in report.checks if check.outcome is Outcome.FAILED]
    return check.name.value, report.result.reason


def misfit(taken: tuple[str, ...], form: str, *, one_key: bool) -> tuple[str, str]:
    """The first thing that does not fit, in the order of the checks: what is from B is True."""
    entry, promise, timestamp, certificate, signature, payload = (name in taken for name in PARTS)
    if form != "without timestamp" and timestamp != signature:
        return "timestamps", "unknown-builder"
    if form != "without promise" and promise != entry:
        return "promise", "bad-signature"
    if signature != payload or (signature != certificate and not one_key):
        return "signature", "bad-signature"
    return "entry", "bad-signature"


def cells(form: str) -> list[tuple[str, ...]]:
    """Every proper mixture: single parts are the diagonal of the six by six, pairs the rest of it, and there are larger ones."""
    parts = [name for name in PARTS if f"without {name}" != form]
    return [taken for count in range(1, len(parts)) for taken in itertools.combinations(parts, count)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pair", PAIRS)
def test_row_23_no_mixture_of_two_good_bundles_is_verified_and_each_is_refused_for_what_does_not_fit(pair, form):
    a, b = (without(bundle, form) for bundle in PAIRS[pair])
    assert isinstance(verify(a).result, Verified)
    assert isinstance(verify(b).result, Verified)
    assert len(cells(form)) == (62 if form == "whole" else 30)
    wrong = {}
    for taken in cells(form):
        mixed = splice(a, taken, b)
        expected = misfit(taken, form, one_key=pair.startswith("one key"))
        if (found := fault_of(verify(mixed))) != expected:
            wrong[taken] = (found, expected)
    assert wrong == {}


def test_the_whole_of_the_other_is_the_other():
    a, b = PAIRS["two runs"]
    assert splice(a, PARTS, b) == b


def test_row_23_the_same_six_by_six_in_cells():
    """Thirty-six cells: the row's and the column's part from B, everything else from A."""
    a, b = PAIRS["two runs"]
    faults = {(row, column): fault_of(verify(splice(a, tuple({row, column}), b)))[0] for row in PARTS for column in PARTS}
    assert len(faults) == 36
    assert faults == {cell: misfit(cell, "whole", one_key=False)[0] for cell in faults}
    assert set(faults.values()) == {"timestamps", "promise", "signature", "entry"}


def test_row_23_a_pinned_keys_parts_do_not_mix():
    key, other = new_key(), new_key()
    a, b, c = (json.loads(foreign_bundles.signed_statement(*of)) for of in ((key,), (key, foreign_bundles.statement(predicate={"b": 1})), (other,)))
    signer = Pinned(parse_managed_key(foreign_bundles.pem(key)), None)

    def says(bundle):
        return verify_attestation(json.dumps(bundle).encode(), signer, Artifact({"sha256": foreign_bundles.SHA256}), at=NOW)

    assert isinstance(says(a).result, Verified)
    assert isinstance(says(b).result, Verified)
    for whole, name in itertools.product((b, c), ("payload", "signatures")):
        mixed = copy.deepcopy(a)
        mixed["dsseEnvelope"][name] = whole["dsseEnvelope"][name]
        if mixed["dsseEnvelope"] != a["dsseEnvelope"]:
            assert fault_of(says(mixed)) == ("signature", "bad-signature")
