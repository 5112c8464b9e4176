"""The artifact manifest ``https://pingee.internal/manifest/v1``: what a build produced.

| member | demanded |
|---|---|
| subject | one, by sha256 alone: the artifact |
| project | a name; equal to the certificate's, else ``provenance-project`` |
| component | a name |
| run | text; equal to the certificate's, else ``provenance-commit`` |
| builder.id | text; equal to the certificate's, else ``unknown-builder`` |
| plan | digest of the plan |
| source.repository | text; compared by the policy |
| source.commit | full git id; equal to the certificate's, else ``provenance-commit`` |
| source.tree | full git id; compared by the policy |
| outputs[] | 1 to `MAX_OUTPUTS`, sorted by path, no path twice |
| outputs[].path | relative, no empty, ``.`` or ``..`` segment, no backslash |
| outputs[].size | bytes |
| outputs[].sha256 | digest of the file |

Every member is required and no other is accepted, at any level.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from gatekeeper.model.facts import ArtifactManifest, Output, Source
from gatekeeper.model.fields import Fields
from gatekeeper.model.moment import Moment
from gatekeeper.model.uris import MANIFEST
from gatekeeper.model.verified import Checked

from .claims import Claim, Unbelievable, demand_signer, refuse_legacy, verify_claim, with_source
from .signers import SignerRule

MAX_OUTPUTS = 4096
_MAX_PATH = 1024


def verify_manifest(data: bytes, rule: SignerRule, *, received_at: Moment) -> Checked[ArtifactManifest]:
    """Verify the bundle bytes of an artifact manifest; raises `MalformedBundle` or `MalformedStatement`."""
    return verify_claim(data, rule, received_at=received_at, artifact=None, readers={MANIFEST: read_manifest})


def read_manifest(claim: Claim) -> ArtifactManifest:
    """Read the predicate of a statement v1 by the table above; raises `FieldError` or `Unbelievable`."""
    refuse_legacy(claim)
    fields = claim.statement.predicate
    project = fields.name("project")
    source = _read_source(fields.nested("source"))
    manifest = ArtifactManifest(
        artifact=claim.artifact,
        component=fields.name("component"),
        plan=fields.digest("plan"),
        source=source,
        outputs=_read_outputs(fields),
        builder_id=read_builder_id(fields.nested("builder")),
        run=fields.text("run"),
        signer=claim.signer,
    )
    fields.done()
    if claim.signer.project not in (None, project):
        raise Unbelievable("provenance-project", "the statement names another project than its certificate")
    demand_signer(claim.signer, builder_id=manifest.builder_id, run=manifest.run)
    signer = with_source(claim.signer, repository=source.repository, commit=source.commit, run=manifest.run, project=project)
    return replace(manifest, signer=signer)


def read_builder_id(fields: Fields) -> str:
    """The one member of a builder object; raises `FieldError`."""
    builder_id = fields.text("id")
    fields.done()
    return builder_id


def _read_source(fields: Fields) -> Source:
    source = Source(repository=fields.text("repository", max_length=1024), commit=fields.commit("commit"), tree=fields.commit("tree"))
    fields.done()
    return source


def _read_outputs(fields: Fields) -> tuple[Output, ...]:
    outputs = tuple(_read_output(item) for item in fields.objects("outputs", max_items=MAX_OUTPUTS))
    if not outputs:
        raise fields.error("outputs", "a build without outputs is no build")
    if any(one.path >= other.path for one, other in pairwise(outputs)):
        raise fields.error("outputs", "must be sorted by path, each path once")
    return outputs


def _read_output(fields: Fields) -> Output:
    path = fields.text("path", max_length=_MAX_PATH)
    if "\\" in path or {"", ".", ".."} & set(path.split("/")):
        raise fields.error("path", "must be a relative path without '.', '..' or empty segments")
    output = Output(path=path, size=fields.integer("size"), sha256=fields.digest("sha256"))
    fields.done()
    return output
