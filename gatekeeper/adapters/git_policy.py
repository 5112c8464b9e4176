"""The policy repository: every commit from a pinned root to the tip signed by an owner whom its parent names (decision rules C36, `formats.md` 4).

1. The first commit is the one pinned at installation, and its signature is by the signers pinned beside it.
2. History is a line: a commit has one parent. A merge has two pasts, and only one of them would have been looked at.
3. Each later commit is signed by one of `allowed_signers` in its parent's tree, in the namespace `git`.
4. The tip descends from the commit last loaded.
5. Its files are regular files within bounds, and they parse.
What fails 4 is `config-rewound`, 1 to 3 `config-unreviewed`, 5 `config-invalid`; the policy in force stays.
A reviewed merge with votes (the rest of C36) is not asked for here.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatekeeper.model.digest import digest_of, is_commit
from gatekeeper.model.evidence import Absent, Evidence, Present, Unreadable
from gatekeeper.model.verified import Refusal
from gatekeeper.policy.document import Configuration, Policy
from gatekeeper.policy.load import MAX_FILE, MAX_FILES, PolicyError, parse_configuration, parse_policy
from gatekeeper.ports.errors import PortError, Unavailable
from gatekeeper.verify.errors import MalformedKey
from gatekeeper.verify.signers import parse_signer
from gatekeeper.verify.token import key_use, parse_key_set

from .git import GitRunner, Mirror

MAX_HISTORY: Final = 5000
"""Most commits from root to tip."""
MAX_TOTAL: Final = 32 * 1024 * 1024
MAX_LISTING: Final = 2 * 1024 * 1024
SIGNERS: Final = "allowed_signers"
_CAUSE: Final = "config-unavailable"
_SSH_SIGNATURE: Final = b"\ngpgsig -----BEGIN SSH SIGNATURE-----\n"
_SSH_SIGNATURE_SHA256: Final = b"\ngpgsig-sha256 -----BEGIN SSH SIGNATURE-----\n"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PolicyOrigin:
    """Where the policy comes from and what was pinned at installation."""

    remote: str
    branch: str
    root: str
    """full id of the first commit"""
    signers: bytes
    """OpenSSH allowed_signers for the first commit"""
    instance: str
    """what `policy.toml` must say"""


@dataclass(frozen=True)
class _Entry:
    mode: str
    kind: str
    blob: str
    size: int


class GitPolicySource:
    """`ports.policy.PolicySource` on a git branch. Made by `open_policy_source`; `refresh` fetches, so its caller paces it."""

    def __init__(self, git: GitRunner, origin: PolicyOrigin, *, clock: Callable[[], float], interval_s: float) -> None:
        if not is_commit(origin.root):
            raise PolicyError("root", "the pinned first commit is not a full git object id", "config-invalid")
        self._origin = origin
        self._tip = f"refs/heads/{origin.branch}"
        self._mirror = Mirror(git, origin.remote, (f"+{self._tip}:{self._tip}",), clock=clock, interval_s=interval_s)
        self._verified: list[str] = []
        self._policy: Policy | None = None
        self.trouble: str | None = None
        """why the tip is not in force, as a code; None where it is"""
        self._scratch = git.state

    @property
    def loaded(self) -> str:
        """The commit in force, for the caller to keep: the `last_loaded` of the next start."""
        return self.current().commit

    def current(self) -> Policy:
        """See `PolicySource.current`."""
        if self._policy is None:
            raise RuntimeError("no policy was loaded")
        return self._policy

    async def refresh(self) -> bool:
        """See `PolicySource.refresh`. Raises `Unavailable("config-unavailable")` where the remote or the mirror cannot be read."""
        try:
            changed = await self._refresh()
        except (PolicyError, Unavailable) as error:
            self.trouble = error.code if isinstance(error, PolicyError) else error.cause_code
            raise
        self.trouble = None
        return changed

    async def _refresh(self) -> bool:
        try:
            await self._mirror.fetch()
            result = await self._mirror.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{self._tip}^{{commit}}")
            tip = result.stdout.decode("ascii", "replace").strip()
            if result.status != 0 or not is_commit(tip):
                raise Unavailable(_CAUSE, f"the policy repository has no branch {self._origin.branch}")
            return await self._load(tip)
        except PortError as error:
            raise Unavailable(_CAUSE, error.detail) from None

    async def restore(self, commit: str) -> None:
        """Put a commit in force that was loaded before this start, from the mirror, verified from the root again.

        Raises `Unavailable("config-unavailable")` where the mirror lost it, `PolicyError` where it does not pass.
        """
        try:
            if not await self._mirror.holds(commit):
                await self._mirror.fetch()
                if not await self._mirror.holds(commit):
                    raise PolicyError(commit[:64], "the repository no longer holds the commit last loaded", "config-rewound")
            await self._load(commit)
        except PortError as error:
            raise Unavailable(_CAUSE, error.detail) from None

    async def configuration(self, commit: str, environment: str, component: str) -> Evidence[Configuration | Refusal]:
        """See `PolicySource.configuration`."""
        if commit not in self._verified:
            return Absent()
        file = f"config/{environment}/{component}.toml"
        try:
            entries = await self._entries(commit, file)
            data = (await self._blobs(entries)).get(file, b"")
            return Present(_parsed(data, commit, file), (digest_of(data),))
        except PortError as error:
            return Unreadable(_CAUSE, error.detail)
        except PolicyError as error:
            # What lies in its place is no file that could be read: a link, a submodule, or one over the bounds.
            return Present(Refusal(error.code, str(error)))

    async def _load(self, tip: str) -> bool:
        if self._policy is not None and tip == self._policy.commit:
            return False
        chain = await self._chain(tip)
        if self._verified and chain[: len(self._verified)] != self._verified:
            raise PolicyError(tip, "does not descend from the commit last loaded", "config-rewound")
        if not chain or chain[0] != self._origin.root:
            raise PolicyError(tip, "does not begin at the pinned first commit", "config-unreviewed")
        await self._verify(chain, known=len(self._verified))
        policy = await self._read(tip)
        self._verified, self._policy = chain, policy
        _logger.info("policy commit %s is in force", tip)
        return True

    async def _chain(self, tip: str) -> list[str]:
        """Commits from the root to `tip`."""
        result = await self._mirror.run("rev-list", "--parents", "--topo-order", f"--max-count={MAX_HISTORY + 1}", tip)
        if result.status != 0:
            raise Unavailable(_CAUSE, "the policy's history cannot be read")
        lines = [line.split(" ") for line in result.stdout.decode("ascii").splitlines()]
        if len(lines) > MAX_HISTORY:
            raise PolicyError(tip, f"has more than {MAX_HISTORY} commits behind it", "config-invalid")
        if merge := next((line[0] for line in lines if len(line) > 2), None):
            raise PolicyError(merge, "is a merge: the policy's history must be a line", "config-unreviewed")
        return [line[0] for line in reversed(lines)]

    async def _verify(self, chain: Sequence[str], *, known: int) -> None:
        signers = self._origin.signers
        for position in range(known, len(chain)):
            if position > 0:
                signers = await self._signers_of(chain[position - 1])
            await self._verify_one(chain[position], signers)

    async def _signers_of(self, commit: str) -> bytes:
        found = await self._blobs(await self._entries(commit, SIGNERS))
        if not found.get(SIGNERS, b"").strip():
            raise PolicyError(commit, f"has no {SIGNERS}: nobody may follow it", "config-unreviewed")
        return found[SIGNERS]

    async def _verify_one(self, commit: str, signers: bytes) -> None:
        data = await self._mirror.commit_bytes(commit)
        head = b"\n" + data.partition(b"\n\n")[0] + b"\n"
        # git chooses the verifying program by the signature's first line; one of another format is not looked at.
        if head.count(b"\ngpgsig") != 1 or not (_SSH_SIGNATURE in head or _SSH_SIGNATURE_SHA256 in head):
            raise PolicyError(commit, "is not signed with an SSH key", "config-unreviewed")
        with _signers_file(self._scratch, signers) as name:
            options = ["-c", f"gpg.ssh.allowedSignersFile={name}", "-c", "gpg.ssh.program=ssh-keygen"]
            result = await self._mirror.run(*options, "verify-commit", commit)
        if result.status != 0:
            raise PolicyError(commit, "is not signed by an owner whom the commit before it names", "config-unreviewed")

    async def _read(self, commit: str) -> Policy:
        policy = parse_policy(await self._blobs(await self._entries(commit)), commit=commit)
        if policy.instance != self._origin.instance:
            raise PolicyError("policy.toml", f"is for the instance {policy.instance}, not {self._origin.instance}")
        for issuer in policy.issuers.values():
            if issuer.jwks_url:
                continue  # fetched when a token asks for it
            # Here and not at the first token: a key set that does not parse would shut out everybody.
            try:
                parse_key_set(issuer.jwks, algorithms=issuer.algorithms, use=key_use(issuer.platform))
            except MalformedKey as error:
                raise PolicyError("issuers.toml", f"{issuer.name}: {error}") from None
        for builder in policy.builders.values():
            try:
                parse_signer(builder.id, builder.signer)
            except MalformedKey as error:
                raise PolicyError("builders.toml", f"{builder.id}: {error}") from None
        return policy

    async def _entries(self, commit: str, *paths: str) -> dict[str, _Entry]:
        result = await self._mirror.run("ls-tree", "-r", "-l", "-z", "--full-tree", commit, "--", *paths, max_output=MAX_LISTING)
        if result.status != 0:
            raise Unavailable(_CAUSE, "the policy's files cannot be listed")
        return _parse_listing(result.stdout)

    async def _blobs(self, entries: Mapping[str, _Entry]) -> dict[str, bytes]:
        names = sorted(entries)
        asked = "".join(f"{entries[name].blob}\n" for name in names).encode()
        result = await self._mirror.run("cat-file", "--batch", stdin=asked, max_output=MAX_TOTAL + 200 * MAX_FILES)
        if result.status != 0:
            raise Unavailable(_CAUSE, "the policy's files cannot be read")
        return _parse_batch(result.stdout, [(name, entries[name]) for name in names])


async def open_policy_source(
    git: GitRunner, origin: PolicyOrigin, *, clock: Callable[[], float], interval_s: float = 0.0, last_loaded: str | None = None
) -> GitPolicySource:
    """A source with a policy in force: the tip where it passes; else, with the cause in the log, the commit of `last_loaded`.

    Raises `PolicyError` or `Unavailable("config-unavailable")` where nothing can be put in force.
    """
    source = GitPolicySource(git, origin, clock=clock, interval_s=interval_s)
    if last_loaded is None:
        await source.refresh()
        return source
    await source.restore(last_loaded)
    try:
        await source.refresh()
    except (PolicyError, Unavailable) as error:
        _logger.error("the policy stays at %s: %s", source.loaded, error)  # noqa: TRY400 -- no traceback for a refused commit
    return source


def _parsed(data: bytes, commit: str, file: str) -> Configuration | Refusal:
    try:
        return parse_configuration(data, commit=commit, file=file)
    except PolicyError as error:
        return Refusal(error.code, str(error))


@contextmanager
def _signers_file(directory: Path, signers: bytes) -> Iterator[str]:
    with ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="signers-", dir=directory, buffering=0))
            written = file.write(signers)
        except OSError as error:
            raise Unavailable(_CAUSE, f"the state directory cannot be used: {error.strerror}") from None
        if written != len(signers):
            # A list cut short by a full disk is another list.
            raise Unavailable(_CAUSE, "the state directory cannot be used: it is full")
        yield file.name


def _parse_listing(data: bytes) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    total = 0
    for line in data.split(b"\0")[:-1]:
        head, _, raw = line.partition(b"\t")
        mode, kind, blob, size = head.decode("ascii").split()
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise PolicyError("/", "a file's name is not UTF-8") from None
        if kind != "blob" or mode not in ("100644", "100755"):
            raise PolicyError(name, "is a link or a submodule: only regular files are read")
        if not name.isprintable() or int(size) > MAX_FILE:
            raise PolicyError(name[:200], f"has more than {MAX_FILE} bytes, or a name with control characters")
        entries[name] = _Entry(mode, kind, blob, int(size))
        total += int(size)
        if len(entries) > MAX_FILES or total > MAX_TOTAL:
            raise PolicyError("/", f"more than {MAX_FILES} files or {MAX_TOTAL} bytes")
    return entries


def _parse_batch(data: bytes, wanted: Sequence[tuple[str, _Entry]]) -> dict[str, bytes]:
    """The answers of `git cat-file --batch`: `ID blob SIZE`, newline, bytes, newline, in the order asked."""
    found: dict[str, bytes] = {}
    start = 0
    for name, entry in wanted:
        head = f"{entry.blob} blob {entry.size}\n".encode()
        end = start + len(head) + entry.size
        if data[start : start + len(head)] != head or data[end : end + 1] != b"\n":
            raise Unavailable(_CAUSE, "the policy's files cannot be read whole")
        found[name] = data[start + len(head) : end]
        start = end + 1
    return found
