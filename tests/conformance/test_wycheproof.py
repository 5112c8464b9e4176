"""Project Wycheproof's vectors for every signature path of ours: pinned keys, a builder's and a reviewer's key, and tokens with their key sets.

Nothing that upstream calls invalid may be accepted. Of what it calls valid we accept what we speak; everything else is refused for the
reason that the test names (attack matrix, rows 34, 35, 93 to 96 and 100).
"""

import contextlib
import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import utils

from gatekeeper.model.caller import CallerKind
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import parse_object
from gatekeeper.verify.base64text import decode_url
from gatekeeper.verify.errors import MalformedKey
from gatekeeper.verify.managedkey import message_algorithm, parse_managed_key, signs_bytes, signs_message
from gatekeeper.verify.signature import ed25519_key, signature_by
from gatekeeper.verify.token import MAX_TOKEN, Issuer, Unauthenticated, _demand_signature, parse_key_set, verify_token

CORPORA = Path(os.environ.get("PINGEE_CORPORA") or Path(__file__).resolve().parents[3] / "shared" / "corpora")
ALGORITHMS = ["RS256", "ES256", "EdDSA"]
NOW = 1_795_255_260


def groups(name: str) -> list[dict]:
    file = CORPORA / "wycheproof" / f"{name}_test.json"
    if not file.is_file():
        message = f"PUBLIC VECTORS MISSING: wycheproof/{file.name} is not in the corpora (set PINGEE_CORPORA or run make corpora)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    document = json.loads(file.read_bytes())
    assert document["numberOfTests"] == sum(len(group["tests"]) for group in document["testGroups"])
    return document["testGroups"]


def differing(name: str, says) -> list[tuple]:
    """The cases whose verdict differs from upstream's; "acceptable" is a matter of taste, and ours is no."""
    wrong = []
    for group in groups(name):
        for test in group["tests"]:
            if says(group, bytes.fromhex(test["sig"]), bytes.fromhex(test["msg"])) != (test["result"] == "valid"):
                wrong.append((test["tcId"], test["comment"], test["result"]))
    return wrong


SIGNATURES = {
    "ecdsa_secp256r1_sha256": 484,
    "ecdsa_secp384r1_sha384": 504,
    "ed25519": 151,
    "rsa_signature_2048_sha256": 259,
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_rows_34_and_35_a_pinned_key_has_upstreams_verdict_on_every_signature(name):
    assert sum(len(group["tests"]) for group in groups(name)) == SIGNATURES[name]
    assert differing(name, lambda group, sig, msg: signs_bytes(parse_managed_key(group["publicKeyPem"].encode()), sig, msg)) == []


@pytest.mark.parametrize("name", [name for name in SIGNATURES if name != "ed25519"])
def test_a_signature_over_a_digest_has_the_same_verdict(name):
    def says(group, sig, msg):
        key = parse_managed_key(group["publicKeyPem"].encode())
        return signs_message(key, sig, hashlib.new(message_algorithm(key), msg).digest())

    assert differing(name, says) == []


def test_a_builders_key_is_p256_and_has_upstreams_verdict():
    assert differing("ecdsa_secp256r1_sha256", lambda group, sig, msg: signature_by(sig, msg, parse_managed_key(group["publicKeyPem"].encode()).key)) == []


def test_row_34_a_builders_key_on_another_curve_signs_nothing():
    def says(group, sig, msg):
        return signature_by(sig, msg, parse_managed_key(group["publicKeyPem"].encode()).key)

    good = [test for group in groups("ecdsa_secp384r1_sha384") for test in group["tests"] if test["result"] == "valid"]
    assert len(differing("ecdsa_secp384r1_sha384", says)) == len(good) > 100


def test_a_reviewers_key_has_upstreams_verdict():
    assert differing("ed25519", lambda group, sig, msg: signature_by(sig, msg, ed25519_key(bytes.fromhex(group["publicKey"]["pk"])))) == []


def test_row_34_the_edges_of_r_and_s_are_among_the_cases():
    """0, 1, n, beyond n, and lengths that are none, each refused: what upstream's files hold today must not silently leave them."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    found = Counter()
    for group in groups("ecdsa_secp256r1_sha256"):
        for test in group["tests"]:
            if test["result"] != "invalid":
                continue
            try:
                r, s = utils.decode_dss_signature(bytes.fromhex(test["sig"]))
            except ValueError:
                found["no DER"] += 1
                continue
            for name, number in (("0", 0), ("n", order), ("n + 1", order + 1)):
                found[name] += number in (r, s)
            found["over n"] += max(r, s) > order
            found["negative"] += min(r, s) < 0
    assert all(found[name] >= 5 for name in ("no DER", "0", "n", "n + 1", "over n")), found


# JSON web signatures: no case is a token (the payload is "foo"), so the part of the token path that decides about signatures is asked.

SECRET, NOTHING, SMALL = "the set holds a secret key", "holds no key that can verify", "needs 2048 bits"
SIGNATURE, ALGORITHM, KEY, HEADER = "signature is not", "algorithm is not its key's", "key is not one of its issuer's", "member other than"


def key_set(group: dict, private: bool = False):
    """The group's keys as an issuer would publish them; where it has no public form, what it has."""
    found = group.get("public") if not private else None
    found = found or group["private"]
    return parse_key_set(json.dumps(found if "keys" in found else {"keys": [found]}).encode(), algorithms=ALGORITHMS)


def issuer(keys) -> Issuer:
    return Issuer("wycheproof", "https://issuer.example", CallerKind.RUN, frozenset({"pingee:test"}), keys)


def verdict(group: dict, jws: str) -> str:
    """Empty where the signature is believed, else why not."""
    try:
        keys = key_set(group)
    except MalformedKey as error:
        return str(error)
    parts = jws.split(".")
    if len(parts) != 3:
        return "not three parts"
    try:
        header, _, signature = (decode_url(part) for part in parts)
        read = Fields(parse_object(header, max_bytes=MAX_TOKEN, max_depth=4), "/header")
        _demand_signature(read, issuer(keys), f"{parts[0]}.{parts[1]}".encode("ascii"), signature)
    except Unauthenticated as error:
        return error.detail
    except (FieldError, ValueError) as error:
        return f"malformed: {error}"
    return ""


SPOKEN = {"RS256", "ES256"}


def test_row_93_no_bad_json_web_signature_is_believed_and_every_good_one_of_our_algorithms_is():
    outcomes = Counter()
    for group in groups("json_web_signature"):
        algorithm = (group.get("public") or group["private"]).get("alg")
        for test in group["tests"]:
            why = verdict(group, test["jws"])
            assert (why == "") == (test["result"] == "valid" and algorithm in SPOKEN), (test["tcId"], test["comment"], why)
            outcomes[next((word for word in (SECRET, NOTHING, SIGNATURE, ALGORITHM, KEY, HEADER, "three parts", "malformed") if word in why), why)] += 1
    assert outcomes == {"": 10, SIGNATURE: 244, SECRET: 40, NOTHING: 89, ALGORITHM: 1, KEY: 2, HEADER: 1, "three parts": 10, "malformed": 4}


KEYS = {
    "jws_mixedSymmetryKeyset": SECRET,
    "jws_keyset": SECRET,
    "jws_duplicate_kid": "two keys of the set share a kid",
    "jws_rsa_roca_key": "CVE-2017-15361",
    "keysize_too_small": SMALL,
    "exponentOne": "cannot be read",
    "invalid_point": "cannot be read",
    **dict.fromkeys(("HS256", "HS384", "HS512", "invalid_aes_gcm_key", "invalid_aes_kw_key"), SECRET),
    **dict.fromkeys(("wrong_algorithm", "invalid_algorithm", "invalid_use", "wrong_curve", "wrong_kty"), NOTHING),
}
"""Why a group's keys are refused; the group "rs256" has a good set and one for encryption."""


def test_rows_35_and_100_no_bad_key_is_taken_and_a_good_one_is():
    believed = refused = 0
    for group in groups("json_web_key"):
        for test in group["tests"]:
            why = verdict(group, test["jws"])
            believed, refused = believed + (why == ""), refused + (why != "")
            if test["result"] == "invalid":
                assert KEYS.get(group["comment"], NOTHING) in why, (test["tcId"], test["comment"], why)
            else:
                assert why == "" or why.endswith(SECRET), (test["tcId"], why)
    assert (believed, refused) == (1, 25)


@pytest.mark.parametrize("name", ["json_web_signature", "json_web_key"])
def test_a_key_set_with_private_members_is_refused_whatever_they_are(name):
    for group in groups(name):
        with pytest.raises(MalformedKey, match=SECRET + "|" + SMALL + "|share a kid"):
            key_set(group, private=True)


@pytest.mark.parametrize("name", ["json_web_signature", "json_web_key"])
def test_none_of_them_is_a_token(name):
    """Not one names a caller: whatever its signature, the whole path says so without a crash."""
    for group in groups(name):
        keys = {}
        with contextlib.suppress(MalformedKey):
            keys = key_set(group)
        for test in group["tests"]:
            with pytest.raises(Unauthenticated):
                verify_token(test["jws"], [issuer(keys)], audience="pingee:test", now=NOW)
