"""`pingee verify bundle`, `provenance` and `summary`: one bundle, offline, by the code that the gatekeeper runs.

None of them opens a connection. What is trusted is given: a trusted root as a file, or a public key. Without `--trusted-root` it is the root of
the public good instance as it was when this version's dependencies were locked, and the report names its digest.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import importlib.resources
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from gatekeeper.model.digest import Digest, MalformedDigest, digest_of, parse_digest
from gatekeeper.model.moment import MalformedMoment, moment, parse_moment
from gatekeeper.verify.checks import PROVENANCE_CHECKS, Name
from gatekeeper.verify.errors import Malformed

from .exits import Exit, Failure
from .verifyreport import Asked, print_report

if TYPE_CHECKING:  # the library behind them takes a third of a second to load, which no other command should wait for
    from gatekeeper.verify.attestation import Artifact, Demand, Report, Signer
    from gatekeeper.verify.offlineforms import OwnRun
    from gatekeeper.verify.sigstoreroot import SigstoreRoot

T = TypeVar("T")
Parser = TypeVar("Parser", bound=argparse.ArgumentParser)

OUTPUTS: Final = ("table", "json", "junit", "sarif")
_PUBLIC_GOOD: Final = ("_store", "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev", "trusted_root.json")
_MAX_INPUT: Final = 1024 * 1024
_BLOCK: Final = 1024 * 1024
_ENDS: Final = " Give --identity and --issuer, or --key, or --identity and --builder-ca. Exit codes: 0 verified, 3 refused, 1 malformed."
_ALGORITHMS: Final = ("sha1", "sha256", "sha384", "sha512")


def add_verify(commands: argparse._SubParsersAction[Parser], flags: Parser) -> None:
    """Add the commands of `verify` to the command line."""
    text = "Verify evidence without a server: offline, naming every check made and every check skipped."
    verifying = commands.add_parser("verify", help="verify a bundle or provenance, offline", description=text)
    words = verifying.add_subparsers(required=True, metavar="COMMAND", parser_class=type(verifying))
    text = "Verify one sigstore bundle against an artifact and its signer." + _ENDS
    one = words.add_parser("bundle", help="verify one bundle", description=text, parents=[flags])
    one.add_argument("bundle", metavar="FILE", help="the bundle, versions 0.1 to 0.3; with --key also a bare DSSE envelope (cosign's .att)")
    one.add_argument("--signature", metavar="FILE", help="with --key: FILE is the layer of cosign's .sig, and this its signature in base64")
    one.add_argument("--artifact", required=True, metavar="FILE|sha256:DIGEST", help="what it must be about")
    one.add_argument("--identity", metavar="ID", help="who must have signed, compared exactly with the certificate's one name")
    one.add_argument("--predicate-type", metavar="URI", help="what its statement must be, compared exactly: an SBOM, a VEX document (default: any)")
    _add_trust(one)
    one.set_defaults(run=bundle)
    text = "Verify SLSA provenance, v1 or v0.2, against builder and source." + _ENDS.replace("--identity and ", "")
    provenance_ = words.add_parser("provenance", help="verify provenance", description=text, parents=[flags])
    provenance_.add_argument("artifact", metavar="FILE|sha256:DIGEST", help="what was built")
    provenance_.add_argument("--bundle", required=True, metavar="FILE", help="the bundle with the provenance")
    provenance_.add_argument("--source-uri", required=True, metavar="URI", help="compared exactly with the provenance's, less its git+ and @ref")
    provenance_.add_argument("--source-ref", metavar="REF", help="compared exactly with the provenance's, such as refs/heads/main (default: any)")
    provenance_.add_argument("--builder-id", required=True, metavar="ID", help="compared exactly with the predicate and the certificate's one name")
    _add_trust(provenance_)
    provenance_.set_defaults(run=provenance)
    text = "Verify a SLSA verification summary (VSA) against verifier and resource." + _ENDS
    summary_ = words.add_parser("summary", help="verify somebody else's verdict", description=text, parents=[flags])
    summary_.add_argument("artifact", metavar="FILE|sha256:DIGEST", help="what was verified")
    summary_.add_argument("--bundle", required=True, metavar="FILE", help="the bundle with the summary")
    summary_.add_argument("--verifier-id", required=True, metavar="ID", help="whose verdict counts, compared exactly with the predicate")
    summary_.add_argument("--resource-uri", required=True, metavar="URI", help="what the verdict must be about, compared exactly")
    summary_.add_argument("--level", action="append", default=[], metavar="LEVEL", help="a level that must have been verified, exactly; repeatable")
    summary_.add_argument("--identity", metavar="ID", help="who must have signed, compared exactly with the certificate's one name")
    _add_trust(summary_)
    summary_.set_defaults(run=summary)


def _add_trust(command: argparse.ArgumentParser) -> None:
    command.add_argument("--issuer", metavar="URL", help="the OIDC issuer that must have vouched for the signer, compared exactly")
    command.add_argument("--trusted-root", metavar="FILE", help="a sigstore trusted root (default: the public good instance's, as locked)")
    command.add_argument("--key", metavar="FILE", help="expect this PEM public key instead of an identity and issuer")
    command.add_argument("--builder-ca", metavar="FILE", help="expect a run of our own builder under these PEM certificates instead of an issuer")
    command.add_argument("--received-at", metavar="TIME", help="with --builder-ca: the time of the statement's intake entry (default: now)")


def bundle(arguments: argparse.Namespace) -> Exit:
    """Verify one bundle, or one layer of cosign's; 0 or 3."""
    signer = _signer(arguments, arguments.identity, "--identity")
    _demand_words(arguments, "predicate_type")
    predicate_type = arguments.predicate_type
    if arguments.signature is not None:
        if predicate_type is not None:
            raise Failure(Exit.USAGE, "--signature goes without --predicate-type: cosign's .sig form holds no statement")
        return _simple_signing(arguments, signer)
    return _verify(arguments, signer, predicates=() if predicate_type is None else (predicate_type,))


def provenance(arguments: argparse.Namespace) -> Exit:
    """Verify one bundle with provenance; 0 or 3."""
    from gatekeeper.verify.foreignprovenance import ExpectedProvenance

    _demand_words(arguments, "builder_id", "source_uri", "source_ref")
    expected = ExpectedProvenance(arguments.builder_id, arguments.source_uri, arguments.source_ref)
    return _verify(arguments, _signer(arguments, arguments.builder_id, "--builder-id"), demand=expected.demand, demanded=PROVENANCE_CHECKS)


def summary(arguments: argparse.Namespace) -> Exit:
    """Verify one bundle with a verification summary; 0 or 3."""
    from gatekeeper.verify.summary import SUMMARY_CHECKS, ExpectedSummary

    _demand_words(arguments, "verifier_id", "resource_uri", "level")
    expected = ExpectedSummary(frozenset({arguments.verifier_id}), arguments.resource_uri, frozenset(arguments.level))
    return _verify(arguments, _signer(arguments, arguments.identity, "--identity"), demand=expected.demand, demanded=SUMMARY_CHECKS)


def _verify(
    arguments: argparse.Namespace,
    signer: Signer | OwnRun,
    *,
    demand: Demand | None = None,
    demanded: tuple[Name, ...] = (),
    predicates: tuple[str, ...] = (),
) -> Exit:
    from gatekeeper.verify.attestation import verify_attestation
    from gatekeeper.verify.offlineforms import OwnRun, verify_own_run
    from gatekeeper.verify.statement import AnyPredicate

    artifact, at = _artifact(arguments.artifact), moment(datetime.now(UTC))
    types = predicates or AnyPredicate.ANY

    def verify(data: bytes) -> Report:
        if isinstance(signer, OwnRun):
            return verify_own_run(data, signer, artifact, at=at, demand=demand, demanded=demanded, predicates=types)
        return verify_attestation(data, signer, artifact, at=at, demand=demand, demanded=demanded, predicates=types)

    trusted_root = None if isinstance(signer, OwnRun) or signer.root is None else signer.root.digest
    return _report(arguments, arguments.bundle, artifact, trusted_root, verify)


def _simple_signing(arguments: argparse.Namespace, signer: Signer | OwnRun) -> Exit:
    from gatekeeper.verify.attestation import Pinned
    from gatekeeper.verify.offlineforms import verify_simple_signing

    if not isinstance(signer, Pinned):
        raise Failure(Exit.USAGE, "--signature goes with --key: cosign's .sig form is verified with a key alone")
    key, artifact = signer.key, _artifact(arguments.artifact)
    try:
        signature = base64.b64decode(_read(arguments.signature).strip(), validate=True)
    except binascii.Error:
        raise Failure(Exit.USAGE, f"{arguments.signature} is not base64") from None
    return _report(arguments, arguments.bundle, artifact, None, lambda data: verify_simple_signing(data, signature, key, artifact))


def _report(arguments: argparse.Namespace, file: str, artifact: Artifact, trusted_root: Digest | None, verify: Callable[[bytes], Report]) -> Exit:
    data = _read(file)
    try:
        report = verify(data)
    except Malformed as error:
        raise Failure(Exit.USAGE, f"{file} is malformed: {error}") from None
    return print_report(Asked(file, digest_of(data), arguments.artifact, artifact.digests["sha256"], trusted_root), report, arguments.output)


def _signer(arguments: argparse.Namespace, identity: str | None, flag: str) -> Signer | OwnRun:
    from gatekeeper.verify.attestation import Keyless, Pinned
    from gatekeeper.verify.managedkey import parse_managed_key

    if arguments.builder_ca is not None and (arguments.key is not None or arguments.issuer is not None):
        raise Failure(Exit.USAGE, "--builder-ca goes with neither --key nor --issuer: one kind of signer is expected")
    if arguments.received_at is not None and arguments.builder_ca is None:
        raise Failure(Exit.USAGE, "--received-at goes with --builder-ca")
    if arguments.builder_ca is not None:
        return _own_run(arguments, identity, flag)
    if arguments.key is not None:
        key = _trusted(arguments.key, parse_managed_key)
        return Pinned(key, None if arguments.trusted_root is None else _root(arguments.trusted_root))
    if not identity or not arguments.issuer:
        raise Failure(Exit.USAGE, f"give {flag} and --issuer, or --key, or --builder-ca")
    return Keyless(identity, arguments.issuer, _root(arguments.trusted_root))


def _own_run(arguments: argparse.Namespace, identity: str | None, flag: str) -> OwnRun:
    from gatekeeper.verify.builder import parse_builder_root
    from gatekeeper.verify.offlineforms import OwnRun

    if not identity:
        raise Failure(Exit.USAGE, f"--builder-ca goes with {flag}: the builder id, compared exactly with the certificate's")
    root = _trusted(arguments.builder_ca, lambda pem: parse_builder_root(Path(arguments.builder_ca).name, pem))
    try:
        received_at = None if arguments.received_at is None else parse_moment(arguments.received_at)
    except MalformedMoment as error:
        raise Failure(Exit.USAGE, f"--received-at {error}") from None
    return OwnRun(identity, root, received_at)


def _root(file: str | None) -> SigstoreRoot:
    from gatekeeper.verify.sigstoreroot import parse_sigstore_root

    if file is not None:
        return _trusted(file, parse_sigstore_root)
    return parse_sigstore_root(importlib.resources.files("sigstore").joinpath(*_PUBLIC_GOOD).read_bytes())


def _trusted(file: str, parse: Callable[[bytes], T]) -> T:
    try:
        return parse(_read(file))
    except Malformed as error:
        raise Failure(Exit.USAGE, f"{file}: {error}") from None


def _demand_words(arguments: argparse.Namespace, *names: str) -> None:
    for name in names:
        given = getattr(arguments, name)
        if given == "" or (isinstance(given, list) and "" in given):
            raise Failure(Exit.USAGE, f"--{name.replace('_', '-')} is empty: nothing would be expected")


def _artifact(text: str) -> Artifact:
    from gatekeeper.verify.attestation import Artifact, artifact_of_digest

    if text.startswith("sha256:"):
        try:
            return artifact_of_digest(parse_digest(text))
        except MalformedDigest as error:
            raise Failure(Exit.USAGE, f"{text}: {error}") from None
    if not text or not Path(text).exists():
        raise Failure(Exit.USAGE, f"there is no file {text!r}; a digest is written sha256: and 64 lowercase hexadecimal digits")
    hashes = {algorithm: hashlib.new(algorithm, usedforsecurity=algorithm != "sha1") for algorithm in _ALGORITHMS}
    with Path(text).open("rb") as file:
        while block := file.read(_BLOCK):
            for each in hashes.values():
                each.update(block)
    return Artifact({algorithm: each.hexdigest() for algorithm, each in hashes.items()})


def _read(file: str) -> bytes:
    with Path(file).open("rb") as opened:
        data = opened.read(_MAX_INPUT + 1)
    if len(data) > _MAX_INPUT:
        raise Failure(Exit.USAGE, f"{file} has more than {_MAX_INPUT} bytes")
    return data
