"""Where the artifact comes from: P1 to P5 and the age check of P3 (decision rules, section 2)."""

from __future__ import annotations

from collections.abc import Sequence

from gatekeeper.model.decision import EvidenceItem, Purpose, RuleResult
from gatekeeper.model.evidence import Absent, Present, Unreadable
from gatekeeper.model.facts import Provenance, SignerIdentity, StandingIdentity
from gatekeeper.model.verified import Refusal
from gatekeeper.policy.case import Case
from gatekeeper.policy.rule import failed, item_of, passed, skipped, unreadable

from .expected import expected_repository, unmet_by_manifest, unmet_by_provenance


def requester(case: Case) -> RuleResult:
    """P1: a run's token speaks for one commit; only the artifact of that commit may be pinged with it."""
    rule = "origin.requester"
    bound = case.candidate.bound_commit
    if bound is None:
        return skipped(rule, "a person pinged, or a run whose token names no commit: rights were checked at the call")
    match case.evidence.manifest:
        case Unreadable() as item:
            return unreadable(rule, item, "manifest")
        case Present(value=manifest) if not isinstance(manifest, Refusal):
            commit = manifest.value.source.commit
            if commit != bound:
                return failed(
                    rule,
                    "not-authorised",
                    expected=f"an artifact of commit {bound}, which the token names",
                    actual=f"the artifact was built from {commit}",
                    need="ping with the token of the run that built this artifact",
                )
            return passed(rule, f"token and artifact name commit {commit}")
        case _:
            return skipped(rule, "no verified artifact manifest to compare with (origin.signature says why)")


def project(case: Case) -> RuleResult:
    """P2: the project is approved for this environment by reviewed configuration."""
    rule = "origin.project"
    if case.candidate.environment not in case.project.approved:
        return failed(
            rule,
            "project-not-approved",
            expected=f"project {case.project.name} approved for {case.candidate.environment}",
            actual=f"approved for: {', '.join(sorted(case.project.approved)) or 'nothing'}",
            need=f"a reviewed change of projects/{case.project.name}.toml in the policy repository",
        )
    return passed(rule, f"{case.project.name} is approved for {case.candidate.environment}")


def signature(case: Case) -> RuleResult:
    """P3: the artifact manifest is signed by a builder that is trusted for this project, in its certificate's life."""
    rule = "origin.signature"
    item = item_of("manifest", case.evidence.manifest)
    match case.evidence.manifest:
        case Unreadable() as unread:
            return unreadable(rule, unread, "manifest")
        case Absent():
            return failed(rule, "bad-signature", item, expected="a signed artifact manifest", actual="none", need="build and submit through CI")
        case Present(value=manifest):
            if isinstance(manifest, Refusal):
                expected = "a valid signature of a trusted builder"
                need = "build and submit again through CI" + (", by a signer that is not revoked" if manifest.reason == "builder-revoked" else "")
                return failed(rule, manifest.reason, item, expected=expected, actual=manifest.detail, need=need)
            found = manifest.value
            if stranger := doubt_signer(rule, case, found.signer, item):
                return stranger
            if found.artifact != case.candidate.artifact:
                return failed(
                    rule,
                    "digest-mismatch",
                    item,
                    expected=f"an artifact manifest about {case.candidate.artifact}",
                    actual=f"it is about {found.artifact}",
                    need="submit the artifact manifest of this artifact",
                )
            if found.component != case.candidate.component:
                return failed(
                    rule,
                    "provenance-project",
                    item,
                    expected=f"an artifact manifest of component {case.candidate.component}",
                    actual=f"component {found.component}",
                    need="ping the component that the artifact was built for",
                )
            return passed(rule, f"signed by {found.signer.builder_id}, run {found.signer.run}", item)


def doubt_signer(rule: str, case: Case, signer: SignerIdentity, *items: EvidenceItem) -> RuleResult | None:
    """Why a statement's signer is not the builder that this component's policy names, for this project; None where it is."""
    builder = case.policy.builders.get(signer.builder_id)
    issued_by = case.policy.builders.get(signer.root)
    # A builder's signer speaks for that builder alone: the name in a run's certificate is only as good as the root that issued it, and only
    # where the policy has that builder sign under a run's certificate at all.
    unknown = builder is None or issued_by is None or issued_by.signer != builder.signer or case.candidate.project not in builder.projects
    if unknown or signer.builder_id != case.component.builder:
        return failed(
            rule,
            "unknown-builder",
            *items,
            expected=f"builder {case.component.builder} under its own signer, trusted for project {case.candidate.project}",
            actual=f"signed by {signer.builder_id} under the signer of {signer.root or 'nobody'}",
            need="build with the builder that the component's policy names",
        )
    if isinstance(signer, StandingIdentity) and signer.repository not in (None, expected_repository(case)):
        return failed(
            rule,
            "provenance-project",
            *items,
            expected=f"a signature for repository {expected_repository(case)}",
            actual=f"signed for repository {signer.repository}",
            need="build, test and submit in this project's own runs",
        )
    if signer.project not in (None, case.candidate.project):
        return failed(
            rule,
            "provenance-project",
            *items,
            expected=f"a certificate for project {case.candidate.project}",
            actual=f"certificate for project {signer.project}",
            need="build, test and submit in this project's own runs",
        )
    return None


def provenance(case: Case) -> RuleResult:
    """P4: provenance traces the artifact to repository, commit and tree, and the repository knows them."""
    rule = "origin.provenance"
    items = (item_of("provenance", case.evidence.provenance), item_of("revision", case.evidence.revision))
    match case.evidence.provenance:
        case Unreadable() as unread:
            return unreadable(rule, unread, "provenance")
        case Absent() | Present(value=()):
            return failed(
                rule,
                "provenance-missing",
                *items,
                expected="SLSA provenance about this artifact",
                actual="none was submitted",
                need="submit the provenance of the run that built it",
            )
        case Present(value=statements):
            # Several provenances of one artifact must all hold: the one that lies is not outvoted by the one that does not.
            facts = []
            for checked in statements:
                if isinstance(checked, Refusal):
                    return failed(
                        rule, checked.reason, *items, expected="valid provenance", actual=checked.detail, need="build and submit again through CI"
                    )
                if stranger := doubt_signer(rule, case, checked.value.signer, *items):
                    return stranger
                facts.append(checked.value)
            return _trace(rule, case, facts, items)


def _trace(rule: str, case: Case, facts: Sequence[Provenance], items: tuple[EvidenceItem, ...]) -> RuleResult:
    """Whether provenances whose signers are believed, and the manifest, say what the repository and the policy say."""
    manifest = case.evidence.manifest
    match case.evidence.revision:
        case Unreadable() as unread:
            return unreadable(rule, unread, "revision")
        case Absent():
            return failed(
                rule,
                "provenance-commit",
                *items,
                expected=f"a commit of {case.project.repository}",
                actual="the repository does not know the commit",
                need="push the commit to the project's repository, then build it",
            )
        case Present(value=revision):
            pass
    if not isinstance(manifest, Present) or isinstance(manifest.value, Refusal):
        return skipped(rule, "no verified artifact manifest to compare with (origin.signature says why)")
    unmet = list(unmet_by_manifest(case, manifest.value.value, revision))
    for fact in facts:
        unmet += unmet_by_provenance(case, fact, revision)
    if unmet:
        need = "build this project's commit through CI, with inputs that the component's policy names"
        return failed(rule, unmet[0].reason, *items, expected=unmet[0].expected, actual=unmet[0].actual, need=need)
    return passed(rule, f"{revision.commit} of {case.project.repository}, tree {revision.tree}", *items)


def stored_bytes(case: Case) -> RuleResult:
    """P5: manifest, configuration and layer in the artifact store are the bytes their digests name."""
    rule = "artifact.bytes"
    item = item_of("stored", case.evidence.stored)
    match case.evidence.stored:
        case Unreadable() as unread:
            return unreadable(rule, unread, "stored")
        case Absent():
            return failed(
                rule,
                "artifact-missing",
                item,
                expected="all blobs in the artifact store",
                actual="at least one is not there",
                need="submit the artifact again",
            )
        case Present(value=stored):
            if isinstance(stored, Refusal):
                expected = f"bytes of {case.candidate.artifact}"
                return failed(rule, stored.reason, item, expected=expected, actual=stored.detail, need="find out who changed the store")
            if stored.component != case.candidate.component:
                return failed(
                    rule,
                    "provenance-project",
                    item,
                    expected=f"an artifact of component {case.candidate.component}",
                    actual=f"component {stored.component}",
                    need="ping the component that the artifact was built for",
                )
            return passed(rule, f"{stored.size} bytes hashed again", item)


def age(case: Case) -> RuleResult:
    """P3: what is older than what runs comes back by rollback only."""
    rule = "origin.age"
    if case.candidate.purpose is Purpose.ROLLBACK:
        return skipped(rule, "a rollback returns to older bytes on purpose")
    if case.candidate.purpose is Purpose.CONFIGURATION:
        return _still_runs(rule, case)
    match case.evidence.older:
        case Unreadable() as unread:
            return unreadable(rule, unread, "older")
        case Absent():
            match case.evidence.running:
                case Unreadable() as unread:
                    return unreadable(rule, unread, "running")
                case Present():
                    return unreadable(rule, Unreadable("vcs-unavailable", "something runs there, and which is older is not known"), "older")
                case Absent():
                    return passed(rule, "nothing runs there yet")
        case Present(value=True):
            return failed(
                rule,
                "older-than-running",
                item_of("older", case.evidence.older),
                expected="a commit that is not an ancestor of what runs",
                actual="what runs already contains this commit",
                need=f"pingee rollback {case.candidate.environment} {case.candidate.component}",
            )
        case Present():
            return passed(rule, "not older than what runs", item_of("older", case.evidence.older))


def _still_runs(rule: str, case: Case) -> RuleResult:
    """A change of configuration alone is asked for no vote and no stage, so its artifact is what runs at this very decision, or the answer is no."""
    item = item_of("running", case.evidence.running)
    match case.evidence.running:
        case Unreadable() as unread:
            return unreadable(rule, unread, "running")
        case Present(value=running) if running.artifact == case.candidate.artifact:
            return passed(rule, "the artifact stays: it is what runs", item)
        case _:
            return failed(
                rule,
                "older-than-running",
                item,
                expected=f"{case.candidate.artifact} still runs: the ping names a configuration alone",
                actual="something else runs now, or nothing that a decision of this gatekeeper put there",
                need="ping again with --config, which keeps what runs now; what was only adopted is deployed by a ping of its own first",
            )


def deployed_before(case: Case) -> RuleResult:
    """Rollback: only what was deployed there successfully, with the configuration it had, or adopted there, comes back."""
    rule = "rollback.member"
    if case.candidate.purpose is not Purpose.ROLLBACK:
        return skipped(rule, "not a rollback")
    match case.evidence.adopted:
        case Unreadable() as unread:
            return unreadable(rule, unread, "adopted")
        case Present(value=True):
            return passed(rule, "ran there before any ping: adopted, not built by CI", item_of("adopted", case.evidence.adopted))
        case _:
            pass
    match case.evidence.deployed_before:
        case Unreadable() as unread:
            return unreadable(rule, unread, "deployed_before")
        case Present(value=True):
            return passed(rule, "was deployed there before", item_of("deployed_before", case.evidence.deployed_before))
        case _:
            return failed(
                rule,
                "never-deployed",
                item_of("deployed_before", case.evidence.deployed_before),
                expected="an artifact and a configuration that were deployed there together, successfully, or adopted there",
                actual="they never were",
                need=f"choose a member: pingee rollback {case.candidate.environment} {case.candidate.component} --list",
            )
