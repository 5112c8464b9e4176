"""SLSA provenance v1 of our build type.

`https://slsa.dev/spec/v1.0/provenance`; the build type ``https://pingee.internal/pipeline/v1`` fixes what its parameters mean.

| member | demanded |
|---|---|
| subject | one, by sha256 alone: the artifact that the caller asks about, else ``digest-mismatch`` |
| buildDefinition.buildType | ours, to the letter, else ``provenance-predicate`` |
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

from gatekeeper.model.digest import Digest
from gatekeeper.model.facts import Provenance
from gatekeeper.model.fields import Fields
from gatekeeper.model.moment import Moment
from gatekeeper.model.uris import PIPELINE, PROVENANCE_V1
from gatekeeper.model.verified import Checked

from .claims import Claim, Unbelievable, demand_signer, verify_claim, with_source
from .manifest import read_builder_id
from .signers import SignerRule
from .statement import read_digest_set, read_sha256

_PARAMETERS = frozenset({"repository", "ref", "commit", "config"})


def verify_provenance(data: bytes, rule: SignerRule, *, received_at: Moment, artifact: Digest) -> Checked[Provenance]:
    """Verify the bundle bytes of a provenance statement about `artifact`; raises `MalformedBundle` or `MalformedStatement`."""
    return verify_claim(data, rule, received_at=received_at, artifact=artifact, readers={PROVENANCE_V1: read_provenance})


def read_provenance(claim: Claim) -> Provenance:
    """Read the predicate by the table above; raises `FieldError` or `Unbelievable`."""
    fields = claim.statement.predicate
    definition, details = fields.nested("buildDefinition"), fields.nested("runDetails")
    fields.done()
    build_type = definition.text("buildType")
    if build_type != PIPELINE:
        raise Unbelievable("provenance-predicate", f"the build type must be {PIPELINE}")
    repository, ref, commit, config = _read_parameters(definition.nested("externalParameters"))
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
        build_type=build_type,
        repository=repository,
        ref=ref,
        commit=commit,
        config=config,
        tree=tree,
        run=run,
        started=started,
        finished=finished,
        log=log,
        signer=signer,
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
