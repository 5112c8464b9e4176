"""What bytes from outside can be wrong with before anybody asks whether to believe them."""

from __future__ import annotations


class Malformed(ValueError):
    """Bytes that are not of the form their format demands. The message is for the sender: it names the place, never a secret."""


class MalformedEnvelope(Malformed):
    """Not a DSSE envelope of the one spelling that is read here."""


class MalformedBundle(Malformed):
    """Not a sigstore bundle of the form that is read: narrow for our own builders (`bundle`), of every version for others (`sigstorebundle`)."""


class MalformedStatement(Malformed):
    """Signed bytes that are not an in-toto statement of a form we know, or one that contradicts itself."""


class MalformedKey(Malformed):
    """A public key or set of keys that must not be trusted: wrong type, too weak, ambiguous."""
