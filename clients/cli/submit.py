"""`pingee submit`: what a foreign CI built and tested, signed with this run's own certificate, and given to the intake.

The run's token for certificates is sent once, to the gatekeeper, which relays it to the vault. Project, commit, run and builder are those of the
certificate that comes back, so nothing here believes what a token says of itself; the key is in this process's memory and dies with it. The
builder's own modules write, sign and send: two writers of one statement would come to differ.
"""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from builder import signing
from builder.fault import BuildFault
from builder.identity import read_token
from builder.outputs import Blob
from builder.statement import Run, Source, Subject, manifest_statement, provenance_statement, test_result_statement
from builder.submit import Instance, Submission, request_certificate
from builder.submit import submit as send
from gatekeeper.hidden import hide_memory
from gatekeeper.model.digest import digest_of
from gatekeeper.model.moment import MalformedMoment, Moment, moment, parse_moment
from gatekeeper.model.reason import REASONS, Effect
from gatekeeper.model.uris import MANIFEST, PROVENANCE_V1, TEST_RESULT
from gatekeeper.verify.bundle import parse_bundle
from gatekeeper.verify.errors import Malformed
from gatekeeper.verify.statement import parse_statement

from .exits import Exit, Failure
from .junit import read_results
from .ocilayout import LayoutArtifact, read_layout
from .output import print_json, print_pairs, say

MAX_FILE: Final = 64 * 1024 * 1024
_USAGE: Final = frozenset({"instance-invalid", "token-unreadable"})
_NAME: Final = "gatekeeper"


def submit(arguments: Namespace) -> Exit:
    """Sign and submit; or, with `--bundle`, submit what another signer signed."""
    hide_memory()  # on a machine that other jobs use, too
    try:
        return _submit_signed(arguments) if arguments.bundle else _submit(arguments)
    except BuildFault as fault:
        raise Failure(_exit(fault.code), fault.sentence, {"code": fault.code, "detail": fault.sentence}) from None


def _submit(arguments: Namespace) -> Exit:
    if arguments.certificate_token_file is None or arguments.definition is None or arguments.results is None:
        raise Failure(Exit.USAGE, "give --results, --definition and --certificate-token-file; or --bundle for statements that are signed already")
    artifact = read_layout(Path(arguments.artifact))
    result = read_results(Path(arguments.results))
    plan = digest_of(_read(Path(arguments.definition)))
    log = _read(Path(arguments.log)) if arguments.log is not None else b""
    finished = moment(datetime.now(UTC))
    started = _started(arguments.started, finished)
    instance = _instance(arguments)
    key = signing.ephemeral_key()
    pem = request_certificate(instance, read_token(Path(arguments.certificate_token_file)), signing.encode_request(key))
    signer = signing.read_signer(key, pem)
    if signer.identity.commit != artifact.commit:
        raise Failure(Exit.DENIED, f"the artifact names commit {artifact.commit}, and the run's certificate {signer.identity.commit}")
    run = Run(signer.identity.project, signer.identity.builder_id, signer.identity.run, plan)
    source = Source(artifact.repository, arguments.ref, artifact.commit, artifact.tree)
    subject = Subject(artifact.component, artifact.artifact)
    provenance = provenance_statement(
        subject, source, run, started=started, finished=finished, log=digest_of(log), config=Path(arguments.definition).name
    )
    submission = Submission(
        manifest=signer.bundle(manifest_statement(subject, source, run, artifact.outputs)),
        provenance=signer.bundle(provenance),
        results=(signer.bundle(test_result_statement(subject, plan, result, None)),),
        blobs={blob.digest: blob for blob in (*artifact.blobs, Blob(digest_of(log), len(log), log))},
    )
    send([instance], submission)
    found = {
        "artifact": artifact.artifact,
        "component": artifact.component,
        "project": run.project,
        "commit": artifact.commit,
        "run": run.run,
        "builder": run.builder,
        "result": result.verdict.value,
        "passed": str(len(result.passed)),
        "failed": str(len(result.failed)),
    }
    _show(arguments, found)
    return Exit.OK


def _submit_signed(arguments: Namespace) -> Exit:
    """In the order in which the intake takes them: manifest, provenance, results. Whether it believes them is the policy's to say."""
    artifact = read_layout(Path(arguments.artifact))
    bundles = {name: _signed(Path(name), artifact) for name in arguments.bundle}
    of = {kind: [_read(Path(name)) for name, found in bundles.items() if found == kind] for kind in (MANIFEST, PROVENANCE_V1, TEST_RESULT)}
    if len(of[MANIFEST]) > 1 or len(of[PROVENANCE_V1]) > 1:
        raise Failure(Exit.USAGE, "there is one manifest and one provenance of a build")
    blobs = [*artifact.blobs]
    if arguments.log is not None:
        log = _read(Path(arguments.log))
        blobs.append(Blob(digest_of(log), len(log), log))
    submission = Submission(
        manifest=next(iter(of[MANIFEST]), None),
        provenance=next(iter(of[PROVENANCE_V1]), None),
        results=tuple(of[TEST_RESULT]),
        blobs={blob.digest: blob for blob in blobs},
    )
    send([_instance(arguments)], submission)
    _show(arguments, {"artifact": artifact.artifact, "component": artifact.component, "commit": artifact.commit, "statements": str(len(bundles))})
    return Exit.OK


def _signed(path: Path, artifact: LayoutArtifact) -> str:
    """The predicate type of a bundle about this artifact."""
    try:
        statement = parse_statement(parse_bundle(_read(path)).envelope.payload)
    except Malformed as error:
        raise Failure(Exit.USAGE, f"{path} is no bundle with an in-toto statement: {error}") from None
    if statement.predicate_type not in (MANIFEST, PROVENANCE_V1, TEST_RESULT):
        raise Failure(Exit.USAGE, f"{path}: the intake takes manifests, provenance and test results")
    if artifact.artifact not in [f"sha256:{subject.digests.get('sha256')}" for subject in statement.subjects]:
        raise Failure(Exit.USAGE, f"{path} is about another artifact than {artifact.artifact}")
    return statement.predicate_type


def _instance(arguments: Namespace) -> Instance:
    if arguments.server is None or arguments.token_file is None:
        raise Failure(Exit.USAGE, "give --server and --token-file (PINGEE_SERVER, PINGEE_TOKEN_FILE): the run's token for this gatekeeper")
    ca_file = None if arguments.ca_file is None else Path(arguments.ca_file)
    return Instance(_NAME, arguments.server, ca_file, read_token(Path(arguments.token_file)))


def _started(text: str | None, finished: Moment) -> Moment:
    try:
        started = finished if text is None else parse_moment(text)
    except MalformedMoment as error:
        raise Failure(Exit.USAGE, f"--started: {error}") from None
    if started > finished:
        raise Failure(Exit.USAGE, "--started lies in the future")
    return started


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        data = stream.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise Failure(Exit.USAGE, f"{path} has more than {MAX_FILE} bytes")
    return data


def _exit(code: str) -> Exit:
    if code in _USAGE:
        return Exit.USAGE
    if code == "unauthenticated":
        return Exit.AUTHENTICATION
    reason = REASONS.get(code)
    return Exit.DENIED if reason is not None and Effect.IND not in reason.effects else Exit.REMOTE


def _show(arguments: Namespace, found: dict[str, str]) -> None:
    if arguments.output == "json":
        print_json(found)
        return
    print_pairs(found)
    say(f"ask to deploy it: pingee ping ENVIRONMENT {found['component']} --artifact {found['artifact']} --wait")
