"""Where a log is read from: a gatekeeper's URL, any server of C2SP tlog-tiles, or a directory with the same layout."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from gatekeeper.logcheck.ahead import fetched_ahead
from gatekeeper.logcheck.directory import BadDirectory, LogDirectory
from gatekeeper.tlog.checkpoint import VerifiedCheckpoint
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.fsck import Fetch
from gatekeeper.tlog.keyhistory import MAX_HISTORY
from gatekeeper.tlog.logpolicy import LogPolicy, open_cosigned, parse_log_policy
from gatekeeper.tlog.note import MAX_NOTE
from gatekeeper.tlog.tile import MAX_BUNDLE, TILE_BYTES, TileAddress

from .exits import Exit, Failure
from .logkeys import KEYS, LogKeys, follow_keys
from .server import Access, Server

_LOG = "/log"


class LogSource(Protocol):
    """A log to be read; nothing that it gives is believed."""

    @property
    def name(self) -> str:
        """As people named it."""
        ...

    def checkpoint(self) -> bytes | None:
        """The newest signed note, or None."""
        ...

    def keys(self) -> bytes | None:
        """What the log shows of its key changes, or None."""
        ...

    def fetch(self, address: TileAddress) -> bytes | None:
        """A tile or bundle, or None where there is none. Safe to call from several threads where the source is a server."""
        ...


@dataclass(frozen=True)
class ServedLog:
    """A log below a URL."""

    server: Server
    prefix: str
    """the path of the log's URL, without trailing slash"""

    @property
    def name(self) -> str:
        """Its URL."""
        return self.server.url + self.prefix

    def checkpoint(self) -> bytes | None:
        """See `LogSource`."""
        return self._get("checkpoint", MAX_NOTE)

    def keys(self) -> bytes | None:
        """See `LogSource`."""
        return self._get(KEYS, MAX_HISTORY)

    def fetch(self, address: TileAddress) -> bytes | None:
        """See `LogSource`."""
        return self._get(address.path, MAX_BUNDLE if address.level is None else TILE_BYTES)

    def _get(self, path: str, most: int) -> bytes | None:
        try:
            return self.server.get_bytes(f"{self.prefix}/{path}", most=most)
        except Failure as failure:
            if failure.problem is not None and failure.problem.get("status") == 404:
                return None
            raise


@dataclass(frozen=True)
class StoredLog:
    """A log in a directory."""

    directory: LogDirectory
    name: str

    def checkpoint(self) -> bytes | None:
        """See `LogSource`."""
        return _plain(self.directory.checkpoint)

    def keys(self) -> bytes | None:
        """See `LogSource`."""
        return _plain(lambda: self.directory.read(KEYS, MAX_HISTORY))

    def fetch(self, address: TileAddress) -> bytes | None:
        """See `LogSource`."""
        return _plain(lambda: self.directory.fetch(address))


@contextmanager
def open_source(named: str | None, access: Access) -> Iterator[LogSource]:
    """The log that the command line names: a URL, a directory, or the gatekeeper's own log where nothing is named."""
    if named is None or named.startswith("https://"):
        origin, prefix = _split(named) if named else (access.url, _LOG)
        with Server(replace(access, url=origin)) as server:
            yield ServedLog(server, prefix)
        return
    if not Path(named).is_dir():
        raise Failure(Exit.USAGE, f"{named} is neither a directory nor an https:// URL")
    with LogDirectory(Path(named)) as directory:
        yield StoredLog(directory, named)


@contextmanager
def ahead(source: LogSource, size: int) -> Iterator[Fetch]:
    """The source's fetch, several requests at once where it is a server."""
    if isinstance(source, StoredLog):
        yield source.fetch
        return
    with fetched_ahead(size, source.fetch) as fetch:
        yield fetch


def read_policy(arguments: Namespace) -> LogPolicy:
    """The log policy that the command line names."""
    if arguments.log_policy is None:
        raise Failure(Exit.USAGE, "no log policy: give --log-policy FILE or set PINGEE_LOG_POLICY; it must come from somebody you trust")
    try:
        return parse_log_policy(Path(arguments.log_policy).read_bytes())
    except OSError as error:
        raise Failure(Exit.USAGE, f"{arguments.log_policy} cannot be read: {error.strerror}") from None
    except TlogError as error:
        raise Failure(Exit.USAGE, f"{arguments.log_policy}: {error}") from None


def served_log(server: Server) -> LogSource:
    """The log that a gatekeeper serves."""
    return ServedLog(server, _LOG)


def trusted(arguments: Namespace, source: LogSource) -> LogKeys:
    """The keys that the command line's policy file leads to, by what the log shows of its key changes."""
    return follow_keys(read_policy(arguments), source.keys())


def newest(source: LogSource, policy: LogPolicy) -> VerifiedCheckpoint:
    """The source's checkpoint, signed by the policy's log and cosigned by its quorum."""
    note = source.checkpoint()
    if note is None:
        raise Failure(Exit.REMOTE if isinstance(source, ServedLog) else Exit.USAGE, f"{source.name} has no checkpoint")
    try:
        return open_cosigned(note, policy)
    except TlogError as error:
        raise Failure(Exit.DENIED, f"the checkpoint does not verify: {error}") from None


def _split(url: str) -> tuple[str, str]:
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    path = path.strip("/")
    # A gatekeeper serves its log under /log; whoever names no path means that.
    return f"{scheme}://{host}", f"/{path}" if path else _LOG


def _plain(read: Callable[[], bytes | None]) -> bytes | None:
    try:
        return read()
    except BadDirectory as error:
        raise Failure(Exit.USAGE, str(error)) from None
