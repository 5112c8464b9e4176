"""Bearer tokens: signed JWTs of the issuers that the policy names (interfaces, section 3; RFC 7519, RFC 8725).

What holds for every token, whatever it says of itself:

1. at most `MAX_TOKEN` bytes, three parts of canonical base64url, header and claims strict JSON;
2. the issuer is one of the given table, by exact equality of ``iss``; it decides keys, algorithms, audiences and who is spoken for;
3. ``alg`` is the one algorithm of the key that ``kid`` names, and on the issuer's fixed list; ``none`` and HMAC are on no list;
4. no header member but alg, kid, typ, x5t: a token neither brings nor points to keys (``jku x5u x5c jwk``) and switches nothing (``crit b64``);
5. ``aud`` is the one asked for and no other, and the issuer may speak to it; ``azp``, where present, is the same;
6. ``exp``, ``iat`` and, where present, ``nbf`` are integers; not expired; not from the future; lifetime at most a day; `LEEWAY` seconds of leeway;
7. the claims that name a caller are strings, not empty, compared by nobody here with prefix or pattern.

Claims of foreign platforms are read by `platform`. One-use of ``jti`` is counted elsewhere. Key sets are pinned or fetched by an adapter;
here they are bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, TypeAlias

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from gatekeeper.model.caller import Caller, CallerKind, PersonCaller, RunCaller
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.issuer import IssuerKind, Platform
from gatekeeper.model.moment import Moment
from gatekeeper.model.strictjson import MalformedJson, parse_object

from .base64text import decode_url
from .errors import MalformedKey
from .platform import read_platform_claims, trust_domain_of
from .rsakey import unfitness

MAX_TOKEN = 16 * 1024
MAX_KEY_SET = 1024 * 1024
MAX_KEYS = 64
LEEWAY = 60
"""Seconds by which our clock and an issuer's may differ."""
MAX_LIFETIME = 24 * 3600
"""Seconds between ``iat`` and ``exp``."""
MAX_WORKLOAD_LIFETIME = 3600
"""The same for workloads that no run ends: a deleted pod's token is good until it expires, and a JWT-SVID does not say since when."""
ALGORITHMS: Final = frozenset({"RS256", "ES256", "EdDSA"})

_HEADER: Final = frozenset({"alg", "kid", "typ", "x5t"})
_KINDS: Final[Mapping[tuple[object, object], tuple[str, tuple[str, ...]]]] = MappingProxyType(
    {
        ("RSA", None): ("RS256", ("kty", "n", "e")),
        ("EC", "P-256"): ("ES256", ("kty", "crv", "x", "y")),
        ("OKP", "Ed25519"): ("EdDSA", ("kty", "crv", "x")),
    }
)
"""Key type and curve: the one algorithm such a key is used with, and the members that make the key (RFC 7518, 6; RFC 8037)."""
_Key: TypeAlias = RSAKey | ECKey | OKPKey


class Unauthenticated(Exception):
    """The token does not say who calls. `detail` is for our own records and the caller's eyes; it holds nothing of the token."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True)
class VerificationKey:
    """One public key and the one algorithm it is used with."""

    algorithm: str
    public: _Key = field(repr=False)


KeySet: TypeAlias = Mapping[str, VerificationKey]
"""Keys by ``kid``."""


@dataclass(frozen=True)
class Issuer:
    """One row of the table of trusted issuers. `claims` maps our names to the issuer's claim names where they differ."""

    name: str
    url: str
    kind: CallerKind
    audiences: frozenset[str]
    """the audiences of ours for which this issuer's tokens are taken at all"""
    keys: KeySet
    claims: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    """of a platform with claims of its own: what they must say"""


def key_use(platform: Platform | None) -> str:
    """What ``use`` must say of an issuer's keys: ``sig`` (RFC 7517, 4.2), and ``jwt-svid`` in a SPIFFE bundle (JWT-SVID, 6.1)."""
    return "jwt-svid" if platform is not None and platform.kind is IssuerKind.SPIFFE else "sig"


def parse_key_set(jwks: bytes, *, algorithms: Collection[str], use: str = "sig") -> KeySet:
    """Read a JWK set (RFC 7517), keeping the keys fit for verification with one of `algorithms`; raises `MalformedKey`.

    Keys meant for encryption, for other algorithms or of other types are left aside. The whole set is refused when a key has no ``kid``, two
    share one, one is secret or private, an RSA key is shorter than 2048 bits, or nothing usable is left. A key that does not say its `use`
    is for signatures; in a bundle of another `use` what says otherwise is somebody else's, and is not looked at.
    """
    if not algorithms or not set(algorithms) <= ALGORITHMS:
        raise MalformedKey("algorithms must be some of " + ", ".join(sorted(ALGORITHMS)))
    try:
        keys = list(Fields(parse_object(jwks, max_bytes=MAX_KEY_SET)).objects("keys", max_items=MAX_KEYS))
        if use != "sig":
            keys = [key for key in keys if key.has("use") and key.raw("use") == use]
        kids = [key.text("kid") for key in keys]
        if len(set(kids)) != len(kids):
            raise MalformedKey("two keys of the set share a kid")
        read = {kid: _read_key(key, frozenset(algorithms), use) for kid, key in zip(kids, keys, strict=True)}
    except (MalformedJson, FieldError) as error:
        raise MalformedKey(f"key set: {error}") from error
    usable = {kid: key for kid, key in read.items() if key is not None}
    if not usable:
        raise MalformedKey("the key set holds no key that can verify")
    return MappingProxyType(usable)


def named_key(token: str) -> tuple[str, str]:
    """The issuer and the ``kid`` that a token names, both unproven: for looking up keys. Raises `Unauthenticated` for what is no token."""
    header, claims, _, _ = _split(token)
    try:
        return _named_issuer(claims), header.text("kid")
    except FieldError as error:
        raise Unauthenticated(f"claim {error}") from None


def verify_token(token: str, issuers: Sequence[Issuer], *, audience: str, now: int) -> Caller:
    """Say who calls; raises `Unauthenticated`, and `NotAdmitted` for a genuine run that the policy does not take.

    `audience` is the one of the door knocked at; `now` is POSIX seconds.
    """
    header, claims, signature, signed = _split(token)
    try:
        issuer = _issuer(_named_issuer(claims), issuers)
        _demand_signature(header, issuer, signed, signature)
        _demand_audience(claims, issuer, audience)
        expires = _demand_time(claims, issuer, now)
        jti = claims.optional("jti", claims.text) or "sha256:" + hashlib.sha256(signed).hexdigest()
        return _caller(claims, issuer, jti, expires)
    except FieldError as error:
        raise Unauthenticated(f"claim {error}") from None


def _read_key(fields: Fields, algorithms: frozenset[str], use: str) -> VerificationKey | None:
    members = {name: fields.raw(name) for name in fields.names()}
    if members.get("kty") == "oct" or "d" in members or "k" in members:
        raise MalformedKey("the set holds a secret key")
    named = members.get("kty"), members.get("crv")
    kind = _KINDS.get(named) if all(isinstance(part, str | None) for part in named) else None
    if kind is None:
        return None
    algorithm, names = kind
    meant = members.get("use", "sig") == use and members.get("alg", algorithm) == algorithm
    operations = members.get("key_ops", ["verify"])
    if not meant or algorithm not in algorithms or not isinstance(operations, list) or "verify" not in operations:
        return None
    # Only what makes the key reaches the library: x5c, x5u and the rest stay outside.
    return VerificationKey(algorithm, _import_key({name: fields.text(name, max_length=2048) for name in names}))


def _import_key(members: dict[str, str]) -> _Key:
    try:
        match members["kty"]:
            case "RSA":
                # before the import, which only warns
                if fault := unfitness(int.from_bytes(decode_url(members["n"]))):
                    raise MalformedKey(f"an RSA key {fault}")
                return RSAKey.import_key(dict(members))
            case "EC":
                return ECKey.import_key(dict(members))
            case _:
                return OKPKey.import_key(dict(members))
    except MalformedKey:
        raise
    except (JoseError, ValueError) as error:
        raise MalformedKey("a key of the set cannot be read") from error


def _split(token: str) -> tuple[Fields, Fields, bytes, bytes]:
    if len(token) > MAX_TOKEN:
        raise Unauthenticated(f"the token has more than {MAX_TOKEN} characters")
    parts = token.split(".")
    if len(parts) != 3:
        raise Unauthenticated("the token is not a signed JWT of three parts")
    try:
        header, claims, signature = (decode_url(part) for part in parts)
        return (
            Fields(parse_object(header, max_bytes=MAX_TOKEN, max_depth=4), "/header"),
            Fields(parse_object(claims, max_bytes=MAX_TOKEN, max_depth=8)),
            signature,
            f"{parts[0]}.{parts[1]}".encode("ascii"),
        )
    except (MalformedJson, ValueError) as error:
        raise Unauthenticated(f"the token is malformed: {error}") from None


def _named_issuer(claims: Fields) -> str:
    """``iss``; a JWT-SVID may have none (JWT-SVID, 3), and then its trust domain stands for it."""
    if claims.has("iss"):
        return claims.text("iss", max_length=1024)
    domain = trust_domain_of(claims.text("sub", max_length=2048))
    return f"spiffe://{domain}" if domain else claims.text("iss")


def _issuer(url: str, issuers: Sequence[Issuer]) -> Issuer:
    for issuer in issuers:
        if issuer.url == url:
            return issuer
    raise Unauthenticated("the token's issuer is not trusted here")


def _demand_signature(header: Fields, issuer: Issuer, signed: bytes, signature: bytes) -> None:
    for name in header.names():
        if name not in _HEADER:
            raise Unauthenticated("the token's header holds a member other than alg, kid, typ and x5t")
    if header.has("typ") and header.text("typ") not in _types(issuer):
        raise Unauthenticated("the token is of another type than JWT")
    key = issuer.keys.get(header.text("kid"))
    if key is None:
        raise Unauthenticated("the token's key is not one of its issuer's")
    if header.text("alg") != key.algorithm:
        raise Unauthenticated("the token's algorithm is not its key's")
    try:
        # The algorithm's own object, not joserfc.decode(): header and claims were read above, once and strictly.
        good = JWSRegistry.algorithms[key.algorithm].verify(signed, signature, key.public)
    except (JoseError, ValueError):
        good = False
    if not good:
        raise Unauthenticated("the token's signature is not its issuer's")


def _types(issuer: Issuer) -> tuple[str, ...]:
    return ("JWT", "JOSE") if _is(issuer, IssuerKind.SPIFFE) else ("JWT",)  # JWT-SVID, 2.3


def _is(issuer: Issuer, *kinds: IssuerKind) -> bool:
    return issuer.platform is not None and issuer.platform.kind in kinds


def _demand_audience(claims: Fields, issuer: Issuer, audience: str) -> None:
    named = claims.raw("aud")
    if not audience or named not in (audience, [audience]):
        raise Unauthenticated("the token is not meant for this audience alone")
    if audience not in issuer.audiences:
        raise Unauthenticated("the token's issuer does not speak to this audience")
    if claims.has("azp") and claims.raw("azp") != audience:
        raise Unauthenticated("the token was issued to another party")


def _demand_time(claims: Fields, issuer: Issuer, now: int) -> Moment:
    expires = claims.integer("exp")
    # A JWT-SVID need not say when it was issued; then its life is counted from now.
    issued = min(now, expires - 1) if _is(issuer, IssuerKind.SPIFFE) and not claims.has("iat") else claims.integer("iat")
    starts = claims.integer("nbf") if claims.has("nbf") else issued
    if expires + LEEWAY <= now:
        raise Unauthenticated("the token has expired")
    if issued > now + LEEWAY or starts > now + LEEWAY:
        raise Unauthenticated("the token is from the future")
    if not 0 < expires - issued <= MAX_LIFETIME:
        raise Unauthenticated("the token lives longer than a day, or not at all")
    if _is(issuer, IssuerKind.SPIFFE, IssuerKind.KUBERNETES) and expires - issued > MAX_WORKLOAD_LIFETIME:
        raise Unauthenticated("the token of a workload lives longer than an hour")
    return Moment(datetime.fromtimestamp(expires, UTC))


def _caller(claims: Fields, issuer: Issuer, jti: str, expires: Moment) -> Caller:
    def claim(name: str) -> str:
        return claims.text(issuer.claims.get(name, name))

    def optional(name: str) -> str:
        return claims.optional(issuer.claims.get(name, name), claims.text) or ""

    subject = claims.text("sub", max_length=2048)
    if claims.has("kind") and claims.raw("kind") != issuer.kind.value:
        raise Unauthenticated("the token is for another kind of caller than its issuer speaks for")
    if issuer.kind is CallerKind.PERSON:
        groups = frozenset(claims.optional(issuer.claims.get("groups", "groups"), claims.texts) or ())
        return PersonCaller(issuer.name, subject, claim("name"), groups, expires, jti, email=optional("email"))
    if issuer.platform is not None:
        return _foreign(claims, issuer, issuer.platform, subject, jti, expires)
    return RunCaller(
        issuer=issuer.name,
        subject=subject,
        project=claim("project"),
        commit=claims.commit(issuer.claims.get("commit", "commit")),
        run=claim("run"),
        actor=claim("actor"),
        ref=claim("ref"),
        builder_id=claim("builder_id"),
        jti=jti,
        expires=expires,
        project_id=optional("project_id"),
    )


def _foreign(claims: Fields, issuer: Issuer, platform: Platform, subject: str, jti: str, expires: Moment) -> RunCaller:
    # Of every other kind both are empty: their subjects are no SPIFFE IDs.
    if trust_domain_of(subject) != platform.trust_domain:
        raise Unauthenticated("the token's subject is of another trust domain than its issuer")
    run = read_platform_claims(claims, platform)
    return RunCaller(
        issuer=issuer.name,
        subject=subject,
        project=run.project,
        commit=run.commit,
        run=run.run,
        actor=run.actor,
        ref=run.ref,
        builder_id=run.builder_id,
        jti=jti,
        expires=expires,
        project_id=run.project_id,
        recipe=run.recipe,
    )
