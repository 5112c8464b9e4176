"""What signed statements and authorities say, as plain values (`formats.md` 2 and 3).

Facts carry no trust by themselves: a rule takes them inside `Verified`, or from an authority the gatekeeper read itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import TypeAlias

from .digest import Digest
from .label import PUBLIC, Label
from .moment import Moment
from .uris import PIPELINE


@dataclass(frozen=True)
class Source:
    """Where an artifact comes from: full git object ids, never a branch."""

    repository: str
    commit: str
    tree: str


@dataclass(frozen=True)
class RunIdentity:
    """Who signed as a builder: the two SAN URIs of the run's ten-minute certificate."""

    builder_id: str
    project: str
    commit: str
    run: str
    certificate: Digest
    """sha256 of the certificate's DER bytes"""
    root: str = ""
    """name of the builder root that issued it, as the policy's ``signer = "x509:NAME"`` has it"""


@dataclass(frozen=True)
class StandingIdentity:
    """Who signed as a builder under a name or key that outlives its runs: an SVID, a keyless identity, a pinned key.

    `project`, `repository`, `commit` and `run` are what its certificate names or, where that names nothing, the statement that it signed; None
    where neither does. What stays None was bound by the token of the run that brought the statement to the intake, and by nothing else.
    """

    builder_id: str
    certificate: Digest
    """sha256 of the certificate's DER bytes, or of the pinned key's SubjectPublicKeyInfo"""
    root: str
    """the builder of the policy whose signer it is: always `builder_id`"""
    project: str | None = None
    repository: str | None = None
    commit: str | None = None
    run: str | None = None


SignerIdentity: TypeAlias = RunIdentity | StandingIdentity


@dataclass(frozen=True)
class Output:
    """One file of an artifact."""

    path: str
    size: int
    sha256: Digest


@dataclass(frozen=True)
class ArtifactManifest:
    """The statement of what a build produced."""

    artifact: Digest
    component: str
    plan: Digest
    source: Source
    outputs: tuple[Output, ...]
    builder_id: str
    run: str
    signer: SignerIdentity


@dataclass(frozen=True)
class Dependency:
    """Something beside the source that went into a build: where it came from, and digests by in-toto's names, sorted by name."""

    uri: str
    digests: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Provenance:
    """SLSA provenance of our build type or of a foreign one. What a document does not say is empty, and compared as such."""

    artifact: Digest
    builder_id: str
    build_type: str
    repository: str
    ref: str
    commit: str
    tree: str
    """empty for a foreign build type: the commit names its tree"""
    run: str
    started: Moment | None
    finished: Moment | None
    log: Digest | None
    signer: SignerIdentity
    repository_id: str = ""
    """the platform's own number of the repository"""
    parameters: tuple[tuple[str, str], ...] = ()
    """external parameters beside the source, as `model.parameters` flattens them"""
    dependencies: tuple[Dependency, ...] = ()
    """resolved dependencies beside the source"""
    trigger: str = ""
    runner: str = ""
    """kind of machine"""
    legacy: frozenset[str] = frozenset()
    """older statement and predicate types that it is written in"""

    @property
    def foreign(self) -> bool:
        """Whether a foreign platform wrote it about a build of its own type."""
        return self.build_type != PIPELINE


@unique
class TestVerdict(StrEnum):
    """in-toto test-result v0.1 ``result``."""

    __test__ = False  # not a pytest class

    PASSED = "PASSED"
    WARNED = "WARNED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class TestResult:
    """The signed result of one stage."""

    __test__ = False

    artifact: Digest
    stage: str
    plan: Digest
    verdict: TestVerdict
    passed: tuple[str, ...]
    warned: tuple[str, ...]
    failed: tuple[str, ...]
    url: str | None
    receipt: Digest | None
    """acceptance: sha256 of the test deployment's receipt"""
    signer: SignerIdentity


@dataclass(frozen=True)
class Vote:
    """A reviewer's signed vote on one revision. `voter` is the person's name in the policy repository."""

    project: str
    change: str
    revision: str
    tree: str
    label: str
    value: int
    at: Moment
    voter: str


@dataclass(frozen=True)
class Revision:
    """What the review system's git says about one commit. E-mail addresses stay in memory: no entry and no row holds them."""

    project: str
    change: str
    """the ``Change-Id`` trailer, else the commit"""
    commit: str
    tree: str
    author: str
    committer: str
    committed: Moment
    ancestors_known: bool = True
    subject: str = ""


@dataclass(frozen=True)
class Running:
    """What runs for one component, as the newest deployment the gatekeeper made and the target reported."""

    artifact: Digest
    config: str | None
    commit: str | None
    """None: it was adopted, and no commit is known"""
    ping_id: str
    receipt: Digest | None
    since: Moment


@dataclass(frozen=True)
class StoredArtifact:
    """The bytes in the artifact store, hashed again by us: manifest, config and layer all equal their digests."""

    artifact: Digest
    component: str
    source: Source
    size: int
    private_key: bool = False
    """a private key in PEM stands in its layer or config"""


@dataclass(frozen=True)
class Received:
    """When and how a statement reached the intake: the trusted time of its certificate (recipes, trap B)."""

    at: Moment
    index: int
    label: Label = field(default=PUBLIC)
