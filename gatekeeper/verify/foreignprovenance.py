"""SLSA provenance of foreign builders against what somebody expects: builder and source, compared exactly.

`https://slsa.dev/spec/v1.0/provenance` and the older ``https://slsa.dev/provenance/v0.2``. The source is read where builders write it, and every
place that names it must name the same:

| version | source |
|---|---|
| v1 | ``buildDefinition.resolvedDependencies[0].uri``; ``externalParameters.repository`` and ``.ref`` or those of ``.workflow``, where they are |
| v0.2 | ``invocation.configSource.uri`` and ``materials[0].uri`` |

One leading ``git+`` is taken off, and what follows the last ``@`` is the ref. Nothing is matched by prefix, pattern or case, and no URI is
normalised: two spellings are two sources. What a builder of ours says is read more narrowly, by `gatekeeper.verify.provenance`.
"""

from __future__ import annotations

from dataclasses import dataclass

from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.uris import PROVENANCE_V02, PROVENANCE_V1

from .checks import Checks, Name
from .source import split_source
from .statement import Statement

_MAX_URI = 2048
_PREDICATE = "provenance-predicate"


@dataclass(frozen=True)
class ExpectedProvenance:
    """Who must have built it, and from what; `source_ref` None: any."""

    builder_id: str
    source_uri: str
    source_ref: str | None

    def __post_init__(self) -> None:
        if not self.builder_id or not self.source_uri or self.source_ref == "":
            raise ValueError("an empty expectation would expect nothing")

    def demand(self, statement: Statement, checks: Checks) -> None:
        """Check the predicate of a statement whose signature and subject hold; raises `Refused`."""
        read = {PROVENANCE_V1: _read_v1, PROVENANCE_V02: _read_v02}.get(statement.predicate_type)
        if read is None:
            checks.refuse(Name.PREDICATE, f"the predicate type must be {PROVENANCE_V1} or {PROVENANCE_V02}", reason=_PREDICATE)
        try:
            builder_id, sources = read(statement.predicate)
        except FieldError as error:
            checks.refuse(Name.PREDICATE, f"predicate {error}", reason=_PREDICATE)
        checks.passed(Name.PREDICATE, statement.predicate_type)
        checks.demand(
            builder_id == self.builder_id, Name.BUILDER, builder_id, f"built by {builder_id}, not by {self.builder_id}", reason="unknown-builder"
        )
        self._demand_source(sources, checks)

    def _demand_source(self, sources: frozenset[tuple[str, str | None]], checks: Checks) -> None:
        if len(sources) != 1:
            checks.refuse(Name.SOURCE, "the provenance names two sources for one build", reason="provenance-inputs")
        ((uri, ref),) = sources
        checks.demand(uri == self.source_uri, Name.SOURCE, uri, f"built from {uri}, not from {self.source_uri}", reason="provenance-project")
        if self.source_ref is None:
            checks.skipped(Name.REF, f"no ref was expected; it is {ref}" if ref else "no ref was expected, and none is named")
            return
        checks.demand(
            ref == self.source_ref, Name.REF, str(ref), f"built from {ref or 'no ref'}, not from {self.source_ref}", reason="provenance-project"
        )


def _read_v1(predicate: Fields) -> tuple[str, frozenset[tuple[str, str | None]]]:
    definition = predicate.nested("buildDefinition")
    builder_id = predicate.nested("runDetails").nested("builder").text("id", max_length=_MAX_URI)
    sources = {_first_uri(definition, "resolvedDependencies")}
    parameters = definition.nested("externalParameters")
    named = parameters.nested("workflow") if parameters.has("workflow") else parameters
    if named.has("repository"):
        ref = named.optional("ref", lambda key: named.text(key, max_length=_MAX_URI))
        sources.add((named.text("repository", max_length=_MAX_URI).removeprefix("git+"), ref))
    return builder_id, frozenset(sources)


def _read_v02(predicate: Fields) -> tuple[str, frozenset[tuple[str, str | None]]]:
    builder_id = predicate.nested("builder").text("id", max_length=_MAX_URI)
    config = predicate.nested("invocation").nested("configSource").text("uri", max_length=_MAX_URI)
    return builder_id, frozenset({split_source(config), _first_uri(predicate, "materials")})


def _first_uri(fields: Fields, key: str) -> tuple[str, str | None]:
    for item in fields.objects(key):
        return split_source(item.text("uri", max_length=_MAX_URI))
    raise fields.error(key, "is empty: no source is named")
