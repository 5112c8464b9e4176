"""The parts of a frame to a doorkeeper (`formats.md` 6), every one of them hashed by us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gatekeeper.model.allow import AllowTerms
from gatekeeper.model.digest import digest_of
from gatekeeper.model.evidence import Present
from gatekeeper.model.frame import PartName
from gatekeeper.policy.document import Configuration
from gatekeeper.ports.artifacts import BlobDiffers, BlobMissing, BlobTooLarge
from gatekeeper.ports.errors import Rejected
from gatekeeper.ports.log import Inclusion
from gatekeeper.ports.target import Part

from .parts import Parts
from .stored import MAX_CONFIG, MAX_MANIFEST, MalformedArtifact, parse_oci_manifest


async def deploy_parts(parts: Parts, terms: AllowTerms, inclusion: Inclusion, secrets: Mapping[str, str]) -> Sequence[Part]:
    """Receipt, proof, growth, the artifact's own blobs, and the settings for this deployment. Raises `PortError`."""
    try:
        manifest = await parts.artifacts.read(terms.artifact, max_bytes=MAX_MANIFEST)
        artifact = parse_oci_manifest(manifest)
        config = await parts.artifacts.read(artifact.config.digest, max_bytes=MAX_CONFIG)
        layer = await parts.artifacts.local(artifact.layer.digest)
    except BlobMissing:
        raise Rejected("artifact-missing", "a blob that was there at the decision is gone") from None
    except (BlobDiffers, BlobTooLarge, MalformedArtifact) as error:
        raise Rejected("digest-mismatch", str(error)) from error
    found = await parts.policy.configuration(terms.config, terms.environment, terms.component)
    if not isinstance(found, Present):
        raise Rejected("config-unavailable", "the configuration that was decided on cannot be read now")
    return (
        _part(PartName.RECEIPT, terms.receipt),
        _part(PartName.PROOF, inclusion.proof),
        _part(PartName.CONSISTENCY, inclusion.growth),
        _part(PartName.MANIFEST, manifest),
        _part(PartName.CONFIG, config),
        Part(PartName.LAYER, layer, artifact.layer.size, artifact.layer.digest),
        _part(PartName.SETTINGS, encode_settings(found.value, secrets)),
    )


def encode_settings(configuration: Configuration, secrets: Mapping[str, str]) -> bytes:
    """`KEY=VALUE` lines: the configuration's plain values, and of the vault's secrets those it names. Raises `Rejected`.

    A secret that the reviewed configuration does not name is not installed; one that it names and the vault lacks stops the deploy.
    """
    chosen = dict(configuration.values)
    for name in sorted(configuration.secrets):
        if name not in secrets:
            raise Rejected("config-secret-refused", f"the vault holds no secret {name} for this environment and component")
        chosen[name] = secrets[name]
    for name, value in chosen.items():
        if "\n" in value or "\0" in value:
            raise Rejected("config-invalid", f"the value of {name} holds a newline or NUL")
    return "".join(f"{name}={chosen[name]}\n" for name in sorted(chosen)).encode()


def _part(name: PartName, data: bytes) -> Part:
    return Part(name, data, len(data), digest_of(data))
