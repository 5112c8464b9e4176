"""Makes `LoggedAllow` values. Importable by `gatekeeper.deploy.decide` alone (import-linter)."""

from __future__ import annotations

from .allow import AllowTerms, LoggedAllow


def make_logged_allow(terms: AllowTerms) -> LoggedAllow:
    """Only after the entry of this Allow is durable at `terms.index` and its statement's signature was checked."""
    allow = LoggedAllow.__new__(LoggedAllow)
    object.__setattr__(allow, "terms", terms)
    return allow
