"""Who calls: the bearer token of the request, verified against the issuers of the policy in force."""

from __future__ import annotations

from functools import lru_cache

from quart import request

from gatekeeper.deploy.parts import Parts
from gatekeeper.model.caller import Caller, CallerKind
from gatekeeper.policy.document import Policy
from gatekeeper.verify.errors import MalformedKey
from gatekeeper.verify.token import Issuer, Unauthenticated, parse_key_set, verify_token

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
        return verify_token(token, _issuers(policy.digest, _Hashable(policy)), audience=audience, now=int(parts.clock().timestamp()))
    except Unauthenticated as error:
        raise ApiError("unauthenticated", f"{error.detail}; get a new token for audience {audience}") from None


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
            keys = parse_key_set(entry.jwks, algorithms=entry.algorithms)
        except MalformedKey as error:
            # Fail closed for everybody: a policy with a broken key set should not have been loaded.
            raise ApiError("identity-unavailable", f"issuer {entry.name}: {error}") from error
        doors = {f"pingee:{policy.instance}"} | ({f"pingee:certificates:{policy.instance}"} if entry.kind == "run" else set())
        found.append(Issuer(entry.name, entry.url, CallerKind(entry.kind), frozenset(doors), keys, entry.claims))
    return tuple(found)
