"""Connection, error translation and login session of one vault identity (OpenBao or HashiCorp Vault) through hvac.

hvac keeps its token in a shared mutable attribute, follows redirects with it, takes tokens, addresses and proxies from the environment, and
puts the vault's answer and URL into its exceptions. So: one client per identity, every argument given, its own HTTP session that reads no
environment, and no vendor exception ever leaves this module, neither as cause nor as context.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar, TypeVarTuple

import hvac
import hvac.exceptions
import requests
import trio
from requests.adapters import HTTPAdapter

from gatekeeper.crossing import in_thread
from gatekeeper.ports.errors import Denied, PortError, Rejected, Unavailable, Untrustworthy

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Answer: TypeAlias = Mapping[str, Any]

CONNECT_S: Final = 3.0
READ_S: Final = 10.0
DEADLINE_S: Final = 15.0
MAX_ANSWER: Final = 2 * 1024 * 1024
"""Bytes of one decoded answer; the largest we expect is a certificate chain of a few KiB."""
THREADS: Final = 8
"""Calls in flight of one identity. A call whose caller has gone keeps its place until READ_S has passed."""
RETRY_S: Final = 5.0

CAS_MISMATCH: Final = "cas-mismatch"
ABSENT: Final = "vault-absent"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VaultAddress:
    """Where the vault answers (an https origin without a path) and the PEM file of the only CA its certificate may come from."""

    url: str
    ca_file: Path


@dataclass(frozen=True)
class WrappedSecret:
    """What starts a process: a role's id, and a wrapping token good for one look at one secret id, for minutes."""

    role: str
    role_id: str
    wrapping_token: str = field(repr=False)


class Connection:
    """Blocking requests of one identity. Raises nothing but `PortError`; safe to use from several threads."""

    def __init__(self, address: VaultAddress, token: str = "") -> None:
        if not address.url.startswith("https://"):
            raise ValueError("the vault is spoken to over https only")
        http = requests.Session()
        http.trust_env = False  # no proxy, no .netrc, no REQUESTS_CA_BUNDLE
        http.verify = str(address.ca_file)
        http.mount("https://", _BoundedAdapter(pool_maxsize=THREADS))
        self.address = address
        # An empty token and namespace, not None: None would be looked for in the environment and in ~/.vault-token.
        self._client = hvac.Client(
            url=address.url, token=token, verify=str(address.ca_file), timeout=(CONNECT_S, READ_S), allow_redirects=False, session=http, namespace=""
        )

    def read(self, path: str) -> Answer | None:
        """GET; None for 404."""
        return _translated("read", partial(self._client.read, path))

    def write(self, path: str, body: Mapping[str, object] | None = None, *, wrap_ttl: str | None = None) -> Answer:
        """POST; an answer without content is an empty mapping."""
        answer = _translated("write", partial(self._client.write_data, path, data=dict(body or {}), wrap_ttl=wrap_ttl))
        return {} if answer is None else answer

    def close(self) -> None:
        """Drop the kept connections."""
        self._client.adapter.close()


class VaultSession:
    """One logged-in identity, kept alive by `run`. `lost` is set when the vault has refused the token: a new secret is needed then."""

    def __init__(self, connection: Connection, *, lease_s: float, name: str) -> None:
        self._connection = connection
        self._limiter = trio.CapacityLimiter(THREADS)
        self._lease_s = lease_s
        self._name = name
        self.lost = trio.Event()

    @property
    def address(self) -> VaultAddress:
        """Where this session talks to."""
        return self._connection.address

    async def read(self, path: str) -> Answer | None:
        """GET under this identity; None for 404. Errors: `ports.errors`."""
        return await crossed(self._limiter, self._connection.read, path)

    async def write(self, path: str, body: Mapping[str, object] | None = None) -> Answer:
        """POST under this identity. Errors: `ports.errors`; after `Unavailable` the outcome is unknown."""
        return await crossed(self._limiter, partial(self._connection.write, path, body))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Renew the token at a third of its life until cancelled. An unreachable vault is asked again; a refusal sets `lost` and returns."""
        task_status.started()
        wait = self._lease_s / 3
        while True:
            await trio.sleep(wait)
            try:
                answer = await self.write("auth/token/renew-self")
                wait = _lease(answer) / 3
            except (Denied, Rejected) as error:
                _logger.critical("the vault no longer accepts the login %s (%s); it needs a new secret", self._name, error.cause_code)
                self.lost.set()
                return
            except PortError as error:
                _logger.warning("the login %s could not be renewed yet (%s)", self._name, error.cause_code)
                wait = min(RETRY_S, wait)

    async def close(self) -> None:
        """Revoke the token and drop connections; shielded, a few seconds at most. A vault that is away lets the token expire."""
        with trio.move_on_after(CONNECT_S, shield=True):
            try:
                await self.write("auth/token/revoke-self")
            except PortError as error:
                _logger.info("the login %s was not revoked (%s) and will expire", self._name, error.cause_code)
        self._connection.close()


async def login(address: VaultAddress, secret: WrappedSecret) -> VaultSession:
    """Unwrap the secret id (which spends it) and log in by AppRole.

    Raises `Denied("secret-spent", ...)` if the wrapping token was used or has expired: then somebody else may hold the secret id.
    Raises `Untrustworthy` if the token wraps anything but a secret id of this role; it is then left unspent, as evidence.
    """
    limiter = trio.CapacityLimiter(1)
    anonymous = Connection(address)
    try:
        return await crossed(limiter, _login, anonymous, secret)
    finally:
        anonymous.close()


def _login(anonymous: Connection, secret: WrappedSecret) -> VaultSession:
    expected = f"auth/approle/role/{secret.role}/secret-id"
    try:
        wrapped = anonymous.write("sys/wrapping/lookup", {"token": secret.wrapping_token})
        if text_of(wrapped, "data", "creation_path") != expected:
            raise Untrustworthy("secret-swapped", f"the wrapping token for {secret.role} was made for another path")
        unwrapped = _unwrap(anonymous.address, secret.wrapping_token)
    except (Denied, Rejected):
        spent = True
    else:
        spent = False
    if spent:
        raise Denied("secret-spent", f"the wrapped secret of {secret.role} was used before or has expired: if not by us, then by somebody else")
    answer = anonymous.write("auth/approle/login", {"role_id": secret.role_id, "secret_id": text_of(unwrapped, "data", "secret_id")})
    connection = Connection(anonymous.address, text_of(answer, "auth", "client_token"))
    return VaultSession(connection, lease_s=_lease(answer), name=secret.role)


def _unwrap(address: VaultAddress, wrapping_token: str) -> Answer:
    holder = Connection(address, wrapping_token)
    try:
        return holder.write("sys/wrapping/unwrap")
    finally:
        holder.close()


async def crossed(limiter: trio.CapacityLimiter, fn: Callable[[*Ts], T], *args: *Ts) -> T:
    """One blocking vault call from trio, with the deadline of all vault calls."""
    try:
        return await in_thread(fn, *args, deadline_s=DEADLINE_S, limiter=limiter)
    except trio.TooSlowError:
        pass
    raise Unavailable("timeout", f"the vault did not answer within {DEADLINE_S:.0f} s")


def text_of(answer: Answer | None, *keys: str) -> str:
    """The string at this place of an answer; `Untrustworthy` if there is none."""
    value: Any = answer
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(value, str) or not value:
        raise Untrustworthy("vault-answer", f"the vault's answer has no text at {'.'.join(keys)}")
    return value


def integer_of(answer: Answer | None, *keys: str) -> int:
    """The integer at this place of an answer; `Untrustworthy` if there is none."""
    value: Any = answer
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int):
        raise Untrustworthy("vault-answer", f"the vault's answer has no integer at {'.'.join(keys)}")
    return value


def _lease(answer: Answer) -> float:
    return float(max(3, integer_of(answer, "auth", "lease_duration")))


def _translated(verb: str, call: Callable[[], object]) -> Answer | None:
    # The translated error is raised outside the except block: as its context, the vendor's would carry URL, answer and token in its frames.
    try:
        answer = call()
    except (hvac.exceptions.VaultError, requests.RequestException, ValueError, OSError) as error:
        problem = _problem(verb, error)
    else:
        if answer is None or isinstance(answer, dict):
            return answer
        if isinstance(answer, requests.Response) and answer.status_code == 204:
            return {}
        problem = Unavailable("vault-answer", f"the vault answered a {verb} with a redirect or with something that is not JSON")
    raise problem


_DOWN: Final = (
    hvac.exceptions.InternalServerError,
    hvac.exceptions.VaultNotInitialized,
    hvac.exceptions.BadGateway,
    hvac.exceptions.VaultDown,
    hvac.exceptions.RateLimitExceeded,
)


def _problem(verb: str, error: Exception) -> PortError:
    match error:
        case hvac.exceptions.Forbidden() | hvac.exceptions.Unauthorized():
            return Denied("vault-denied", f"the vault refuses this login the {verb}")
        case hvac.exceptions.InvalidRequest() if any("check-and-set parameter" in str(text) for text in error.errors or ()):
            return Rejected(CAS_MISMATCH, "another version stands there")
        case hvac.exceptions.InvalidRequest():
            return Rejected("vault-rejected", f"the vault rejects the {verb} as it was put")
        case hvac.exceptions.InvalidPath():
            return Rejected(ABSENT, f"the vault has nothing at the path of the {verb}")
        case _ if isinstance(error, _DOWN):
            return Unavailable("vault-down", "the vault is sealed, starting, overloaded or without a leader")
        case requests.exceptions.SSLError():
            return Unavailable("vault-tls", "the vault's certificate does not come from the pinned CA, or TLS failed")
        case requests.exceptions.Timeout():
            return Unavailable("timeout", "the vault did not answer in time")
        case requests.exceptions.ConnectionError():
            return Unavailable("vault-unreachable", "no connection to the vault, or it was cut")
        case _:
            return Unavailable("vault-answer", f"the vault's answer to the {verb} could not be read")


class _BoundedAdapter(HTTPAdapter):
    """requests has no bound on the size of an answer; this is it."""

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        response = super().send(*args, **kwargs)
        response.raw = _BoundedBody(response.raw)
        return response


class _BoundedBody:
    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def stream(self, amount: int, decode_content: bool = True) -> Iterator[bytes]:
        total = 0
        for chunk in self._raw.stream(amount, decode_content=decode_content):
            total += len(chunk)
            if total > MAX_ANSWER:
                self._raw.close()
                raise requests.exceptions.ContentDecodingError("answer over the bound")
            yield chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)
