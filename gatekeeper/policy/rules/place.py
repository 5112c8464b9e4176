"""What holds for the place and the things deployed with it: labels (P11) and configuration (P12)."""

from __future__ import annotations

from gatekeeper.model.decision import Purpose, RuleResult
from gatekeeper.model.evidence import Absent, Present, Unreadable
from gatekeeper.model.privatekey import holds_private_key
from gatekeeper.model.verified import Refusal
from gatekeeper.policy.case import Case
from gatekeeper.policy.document import Configuration
from gatekeeper.policy.rule import failed, item_of, passed, skipped, unreadable


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


def secrets(case: Case) -> RuleResult:
    """P12: no private key in artifact or configuration. The vault's own values are compared by whoever may read them, before anything is sent."""
    rule = "config.secrets"
    items = (item_of("stored", case.evidence.stored), item_of("configuration", case.evidence.configuration))
    if case.candidate.purpose is Purpose.ROLLBACK:
        # A key found in what ran for a year has to be replaced all the same; refusing to go back would only lengthen an outage.
        return skipped(rule, "a rollback returns to bytes that ran here")
    found = []
    for name, item in (("artifact", case.evidence.stored), ("configuration", case.evidence.configuration)):
        if isinstance(item, Unreadable):
            return unreadable(rule, item, name)
        if not isinstance(item, Present) or isinstance(item.value, Refusal):
            return skipped(rule, f"no {name} to look at (another rule says why)")
        value = item.value
        if holds_private_key((value.data,)) if isinstance(value, Configuration) else value.private_key:
            found.append(name)
    if found:
        return failed(
            rule,
            "config-secret-found",
            *items,
            expected="no private key in artifact or configuration",
            actual=f"a private key in PEM stands in the {' and in the '.join(found)}",
            need="take it out, replace the key, and have the workload's keys installed from the vault",
        )
    return passed(rule, "no private key in PEM; the vault's own values are compared before anything is sent", *items)
