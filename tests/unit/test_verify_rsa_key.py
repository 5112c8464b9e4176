"""RSA keys that nobody should verify with (attack matrix, row 35; CVE-2017-15361)."""

import json
import math

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatekeeper.verify.errors import MalformedKey
from gatekeeper.verify.managedkey import parse_managed_key
from gatekeeper.verify.rsakey import _PRIMES, unfitness
from gatekeeper.verify.token import parse_key_set
from tests.fakes.signing import FakeIssuer, b64url

GOOD = rsa.generate_private_key(65537, 2048).public_key()
PRODUCT = math.prod(_PRIMES)
# Not a product of two primes, but modulo each small prime what those moduli are.
ROCA = (PRODUCT << (2047 - PRODUCT.bit_length() + 1)) + pow(65537, 1234567, PRODUCT)


def pem(modulus: int, exponent: int = 65537) -> bytes:
    return rsa.RSAPublicNumbers(exponent, modulus).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def test_a_key_of_a_good_generator_is_fit():
    assert unfitness(GOOD.public_numbers().n) is None


def test_a_key_of_a_generator_whose_keys_can_be_factored_is_not():
    assert ROCA.bit_length() == 2048
    fit = [place for place in range(64) if unfitness(ROCA + place) is None]
    assert 0 not in fit
    assert len(fit) >= 63


@pytest.mark.parametrize("bits", [512, 1024, 2047])
def test_row_35_a_short_key_is_unfit(bits):
    assert unfitness((1 << (bits - 1)) + 1) == "needs 2048 bits or more"


ODD = ROCA if ROCA % 2 else ROCA + PRODUCT


@pytest.mark.parametrize(("modulus", "words"), [(ODD, "CVE-2017-15361"), ((1 << 2046) + 1, "needs 2048 bits")], ids=["factored", "short"])
def test_row_35_such_a_key_is_neither_pinned_nor_taken_from_an_issuer(modulus, words):
    with pytest.raises(MalformedKey, match=words):
        parse_managed_key(pem(modulus))
    numbers = b64url(modulus.to_bytes((modulus.bit_length() + 7) // 8))
    jwk = {"kid": "k", "kty": "RSA", "n": numbers, "e": "AQAB"}
    with pytest.raises(MalformedKey, match=words):
        parse_key_set(json.dumps({"keys": [FakeIssuer().jwk(kid="other"), jwk]}).encode(), algorithms=["RS256", "ES256"])
