"""Which RSA public keys are fit to verify with: 2048 bits or more, and not made by the generator of CVE-2017-15361 (ROCA).

Primes of that generator are ``k * M + (65537**a mod M)`` for M the product of the first primes, so modulo each of those primes the modulus
is a power of 65537, and such a key can be factored for the price of some rented machines (Nemec and others, "The Return of Coppersmith's
Attack", 2017). A key of any other generator looks so with a chance below 2**-27.
"""

from __future__ import annotations

from typing import Final

MIN_RSA_BITS: Final = 2048

_GENERATOR: Final = 65537
_PRIMES: Final = (
    *(3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97),
    *(101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167),
)  # fmt: skip


def unfitness(modulus: int) -> str | None:
    """What is wrong with a key of this modulus, in words that follow "an RSA key"; None where nothing is."""
    if modulus.bit_length() < MIN_RSA_BITS:
        return f"needs {MIN_RSA_BITS} bits or more"
    if all(modulus % prime in _POWERS[prime] for prime in _PRIMES):
        return "comes from a generator whose keys can be factored (CVE-2017-15361)"
    return None


def _powers(prime: int) -> frozenset[int]:
    return frozenset(pow(_GENERATOR, exponent, prime) for exponent in range(prime - 1))


_POWERS: Final = {prime: _powers(prime) for prime in _PRIMES}
