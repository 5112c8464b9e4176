"""Who calls: the bearer token of the request, verified against the issuers of the policy in force."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from quart import request

from gatekeeper.deploy.keysets import KeySource
from gatekeeper.deploy.liveruns import Question, is_asked_about
from gatekeeper.deploy.parts import Parts
from gatekeeper.model.caller import Caller, RunCaller
from gatekeeper.policy.document import IssuerEntry, Policy
from gatekeeper.ports.errors import Unavailable
from gatekeeper.verify.errors import MalformedKey
from gatekeeper.verify.platform import NotAdmitted
from gatekeeper.verify.token import Issuer, Unauthenticated, key_use, named_key, parse_key_set, verify_token

from .problem import ApiError


def caller(parts: Parts, *, certificates: bool = False) -> Caller | None:
    """The caller, or None for the anonymous one. A token that is there and bad is 401, never anonymous.

    `certificates` asks for a token of the certificate door; neither audience is taken for the other.
    """
    return caller_of(parts, bearer(), certificates=certificates)


def caller_of(parts: Parts, token: str | None, *, certificates: bool = False) -> Caller | None:
    """As `caller`, for a token in hand."""
    if token is None:
        return None
    policy = parts.policy.current()
    audience = f"pingee:certificates:{policy.instance}" if certificates else f"pingee:{policy.instance}"
    try:
        found = verify_token(token, _current_issuers(parts, token), audience=audience, now=int(parts.clock().timestamp()))
        question = _question(policy, found, audience, token)
        return found if question is None else parts.runs.held(question)
    except Unavailable as error:
        raise ApiError("identity-unavailable", error.detail, retry_after=10) from None
    except Unauthenticated as error:
        raise ApiError("unauthenticated", f"{error.detail}; get a new token for audience {audience}") from None
    except NotAdmitted as error:
        raise ApiError("not-authorised", f"{error.detail}; the policy's issuers.toml says whose runs come in") from None


async def make_ready(parts: Parts, token: str | None) -> None:
    """Before any of these: fetch the keys of the token's issuer, and ask its platform about the run, where the policy wants it.

    Says nothing about the token. Nobody but the keys' one place is asked before the token is found genuine.
    """
    named = None if token is None else _named(parts, token)
    if token is None or named is None:
        return
    entry, kid = named
    if entry.jwks_url:
        await parts.keys.ready(_source(entry), kid)
    if entry.platform is None or not is_asked_about(entry.platform):
        return
    policy = parts.policy.current()
    # The one audience of kinds that are asked about: none of them has certificates.
    audience = f"pingee:{policy.instance}"
    try:
        found = verify_token(token, _current_issuers(parts, token), audience=audience, now=int(parts.clock().timestamp()))
    except (Unauthenticated, NotAdmitted, ApiError):
        return
    question = _question(policy, found, audience, token)
    if question is not None:
        await parts.runs.ready(question)


def known_caller(parts: Parts, *, certificates: bool = False) -> Caller:
    """The caller; the anonymous one is refused."""
    found = caller(parts, certificates=certificates)
    if found is None:
        raise ApiError("unauthenticated", "this needs a bearer token")
    return found


def reader(parts: Parts) -> Caller | None:
    """Who reads; where the policy says `anonymous = "none"` a token is needed."""
    found = caller(parts)
    if found is None and not parts.policy.current().anonymous_reads:
        raise ApiError("unauthenticated", "this instance is read with a token only")
    return found


def bearer() -> str | None:
    """The request's bearer token, if it has one."""
    return parse_bearer(request.headers.get("Authorization"))


def parse_bearer(header: str | None) -> str | None:
    """The token of an Authorization field (RFC 6750, 2.1); None where there is no field."""
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise ApiError("unauthenticated", "the Authorization field must be 'Bearer TOKEN'")
    return token


def _question(policy: Policy, found: Caller, audience: str, token: str) -> Question | None:
    if not isinstance(found, RunCaller):
        return None
    platform = policy.issuers[found.issuer].platform
    return Question(found, platform, audience, token) if platform is not None and is_asked_about(platform) else None


def _named(parts: Parts, token: str) -> tuple[IssuerEntry, str] | None:
    """The policy's row for the issuer that the token claims, and the key that it names."""
    try:
        url, kid = named_key(token)
    except Unauthenticated:
        return None
    return next(((entry, kid) for entry in parts.policy.current().issuers.values() if entry.url == url), None)


def _source(entry: IssuerEntry) -> KeySource:
    return KeySource(entry.jwks_url, entry.algorithms, key_use(entry.platform))


def _current_issuers(parts: Parts, token: str) -> tuple[Issuer, ...]:
    policy = parts.policy.current()
    issuers = _issuers(policy.digest, _Hashable(policy))
    named = _named(parts, token)
    if named is None or not named[0].jwks_url:
        return issuers
    entry, kid = named
    try:
        keys = parts.keys.held(_source(entry), kid)
    except Unavailable as error:
        raise ApiError("identity-unavailable", f"issuer {entry.name}: {error.detail}", retry_after=10) from None
    return tuple(replace(issuer, keys=keys) if issuer.name == entry.name else issuer for issuer in issuers)


class _Hashable:
    """A policy as an argument of a cache that is keyed by the policy's digest alone."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashable)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=4)
def _issuers(_digest: str, holder: _Hashable) -> tuple[Issuer, ...]:
    # Parsing key sets costs more than checking a token; the policy's digest covers every byte that goes in here.
    policy = holder.policy
    found = []
    for entry in policy.issuers.values():
        try:
            keys = {} if entry.jwks_url else parse_key_set(entry.jwks, algorithms=entry.algorithms, use=key_use(entry.platform))
        except MalformedKey as error:
            # Fail closed for everybody: a policy with a broken key set should not have been loaded.
            raise ApiError("identity-unavailable", f"issuer {entry.name}: {error}") from error
        found.append(Issuer(entry.name, entry.url, entry.kind.speaks_for, entry.audiences, keys, entry.claims, entry.platform))
    return tuple(found)
