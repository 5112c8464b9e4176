"""SLSA provenance that may count for a decision: of our own build type, and of the foreign ones that a policy can name.

`https://slsa.dev/spec/v1.0/provenance`. Our build type ``https://pingee.internal/pipeline/v1`` fixes what its parameters mean:

| member | demanded |
|---|---|
| subject | one, by sha256 alone: the artifact that the caller asks about, else ``digest-mismatch`` |
| buildDefinition.buildType | ours, to the letter, or one that `workflowprovenance` reads, else ``provenance-predicate`` |
| buildDefinition.externalParameters | repository, ref, commit, config and nothing else, else ``provenance-inputs`` |
| ....commit | full git id; equal to the certificate's, else ``provenance-commit`` |
| ....repository, ref, config | text; compared by the policy |
| buildDefinition.resolvedDependencies | exactly one, else ``provenance-inputs`` |
| ....uri | ``git+REPOSITORY@REF`` of the parameters, else ``provenance-inputs`` |
| ....digest | gitCommit and gitTree alone; gitCommit equal to the parameter, else ``provenance-commit`` |
| runDetails.builder.id | equal to the certificate's, else ``unknown-builder`` |
| runDetails.metadata.invocationId | the run; equal to the certificate's, else ``provenance-commit`` |
| runDetails.metadata.startedOn, finishedOn | RFC 3339 UTC, whole seconds, in this order |
| runDetails.byproducts | optional: one, named ``log``, by sha256 alone |

No other member is accepted, at any level: an unread parameter is an unreviewed input.
"""

from __future__ import annotations

from collections.abc import Callable

from gatekeeper.model.digest import Digest
from gatekeeper.model.facts import Provenance
from gatekeeper.model.fields import Fields
from gatekeeper.model.moment import Moment
from gatekeeper.model.parameters import flatten_parameters
from gatekeeper.model.uris import PIPELINE, PROVENANCE_V02, PROVENANCE_V1
from gatekeeper.model.verified import Checked

from .claims import Claim, Unbelievable, demand_signer, verify_claim, with_source
from .manifest import read_builder_id
from .signers import SignerRule
from .statement import read_digest_set, read_sha256
from .workflowprovenance import WORKFLOWS, read_older_provenance, read_workflow_provenance

_PARAMETERS = frozenset({"repository", "ref", "commit", "config"})


def verify_provenance(data: bytes, rule: SignerRule, *, received_at: Moment, artifact: Digest) -> Checked[Provenance]:
    """Verify the bundle bytes of a provenance statement about `artifact`; raises `MalformedBundle` or `MalformedStatement`."""
    return verify_claim(data, rule, received_at=received_at, artifact=artifact, readers=PROVENANCE_READERS)


def read_provenance(claim: Claim) -> Provenance:
    """Read a predicate of version 1 by its build type; raises `FieldError` or `Unbelievable`."""
    fields = claim.statement.predicate
    definition, details = fields.nested("buildDefinition"), fields.nested("runDetails")
    fields.done()
    build_type = definition.text("buildType")
    if build_type == PIPELINE:
        return _read_pipeline(claim, definition, details)
    if build_type in WORKFLOWS:
        return read_workflow_provenance(claim, build_type, definition, details)
    raise Unbelievable("provenance-predicate", "the build type must be one of " + ", ".join((PIPELINE, *sorted(WORKFLOWS))))


PROVENANCE_READERS: dict[str, Callable[[Claim], Provenance]] = {PROVENANCE_V1: read_provenance, PROVENANCE_V02: read_older_provenance}
"""What can be a provenance at all. Older provenance counts for a decision only where the component's policy names it."""


def _read_pipeline(claim: Claim, definition: Fields, details: Fields) -> Provenance:
    parameters = definition.nested("externalParameters")
    repository, ref, commit, config = _read_parameters(parameters)
    tree = _read_dependency(definition, repository=repository, ref=ref, commit=commit)
    definition.done()
    builder_id = read_builder_id(details.nested("builder"))
    run, started, finished = _read_metadata(details.nested("metadata"))
    log = details.optional("byproducts", lambda key: _read_log(details, key))
    details.done()
    demand_signer(claim.signer, builder_id=builder_id, run=run)
    signer = with_source(claim.signer, repository=repository, commit=commit, run=run)
    return Provenance(
        artifact=claim.artifact,
        builder_id=builder_id,
        build_type=PIPELINE,
        repository=repository,
        ref=ref,
        commit=commit,
        tree=tree,
        run=run,
        started=started,
        finished=finished,
        log=log,
        signer=signer,
        parameters=flatten_parameters({"config": config}),
        legacy=claim.statement.legacy,
    )


def _read_parameters(fields: Fields) -> tuple[str, str, str, str]:
    if set(fields.names()) != _PARAMETERS:
        raise Unbelievable("provenance-inputs", "externalParameters must be repository, ref, commit and config, no more and no less")
    return fields.text("repository", max_length=1024), fields.text("ref"), fields.commit("commit"), fields.text("config")


def _read_dependency(definition: Fields, *, repository: str, ref: str, commit: str) -> str:
    dependencies = list(definition.objects("resolvedDependencies"))
    if len(dependencies) != 1:
        raise Unbelievable("provenance-inputs", "resolvedDependencies must be exactly the source")
    source = dependencies[0]
    uri = source.text("uri", max_length=2048)
    digests = read_digest_set(source.nested("digest"))
    source.done()
    if uri != f"git+{repository}@{ref}" or set(digests) != {"gitCommit", "gitTree"}:
        raise Unbelievable("provenance-inputs", "the source must be git+REPOSITORY@REF of the parameters, by gitCommit and gitTree")
    if digests["gitCommit"] != commit:
        raise Unbelievable("provenance-commit", "the source was resolved to another commit than the parameters name")
    return digests["gitTree"]


def _read_metadata(fields: Fields) -> tuple[str, Moment, Moment]:
    run, started, finished = fields.text("invocationId"), fields.moment("startedOn"), fields.moment("finishedOn")
    fields.done()
    if finished < started:
        raise fields.error("finishedOn", "lies before startedOn")
    return run, started, finished


def _read_log(details: Fields, key: str) -> Digest:
    byproducts = list(details.objects(key))
    if len(byproducts) != 1:
        raise details.error(key, "must be the log alone")
    byproducts[0].choice("name", ("log",))
    digest = read_sha256(byproducts[0].nested("digest"))
    byproducts[0].done()
    return digest
