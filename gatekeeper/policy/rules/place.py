"""What holds for the place and the things deployed with it: labels (P11) and configuration (P12)."""

from __future__ import annotations

from gatekeeper.model.decision import RuleResult
from gatekeeper.model.evidence import Absent, Present, Unreadable
from gatekeeper.model.verified import Refusal
from gatekeeper.policy.case import Case
from gatekeeper.policy.rule import failed, item_of, passed, unreadable


def label(case: Case) -> RuleResult:
    """P11: nothing that carries a compartment is deployed here until the embargo rules say how."""
    rule = "embargo.label"
    match case.evidence.label:
        case Unreadable() as unread:
            return unreadable(rule, unread, "label")
        case Absent():
            # No label is not the empty label: a record whose label cannot be told is treated as embargoed.
            return unreadable(rule, Unreadable("embargo-unavailable"), "label")
        case Present(value=compartments):
            if compartments:
                return failed(
                    rule,
                    "embargoed",
                    item_of("label", case.evidence.label),
                    expected="a public artifact",
                    actual="the artifact carries a compartment",
                    need="the security team decides",
                )
            return passed(rule, "public", item_of("label", case.evidence.label))


def configuration(case: Case) -> RuleResult:
    """P12: what is installed beside the artifact comes from a reviewed commit of the policy repository."""
    rule = "config.reviewed"
    item = item_of("configuration", case.evidence.configuration)
    match case.evidence.configuration:
        case Unreadable() as unread:
            return unreadable(rule, unread, "configuration")
        case Absent():
            return failed(
                rule,
                "config-unreviewed",
                item,
                expected="a commit of the policy repository that is loaded or was loaded before",
                actual=f"{case.candidate.config} is not one",
                need="have an owner sign it onto the policy branch; once the gatekeeper has loaded that commit (within seconds), ping again",
            )
        case Present(value=found):
            if isinstance(found, Refusal):
                expected = f"config/{case.candidate.environment}/{case.candidate.component}.toml as the policy's format has it"
                return failed(rule, found.reason, item, expected=expected, actual=found.detail, need="mend it in a new commit and ping with that")
            return passed(rule, f"configuration {found.commit}", item)
