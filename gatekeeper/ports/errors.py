"""What goes wrong behind a port, in four words. No message ever holds a secret, a token or a foreign system's own text.

A caller that must act on the difference catches the subclass; every other caller catches `PortError` and fails closed.
"""

from __future__ import annotations


class PortError(Exception):
    """A foreign system did not do what was asked. `cause_code` is a short stable word, `detail` a sentence for an operator."""

    def __init__(self, cause_code: str, detail: str = "") -> None:
        super().__init__(f"{cause_code}: {detail}" if detail else cause_code)
        self.cause_code = cause_code
        self.detail = detail


class Unavailable(PortError):
    """Not reached, sealed, overloaded or too slow: the outcome of the call is unknown, and asking again later may help."""


class Denied(PortError):
    """Reached, and it refuses this caller this thing: expired or revoked token, or a policy without the path."""


class Rejected(PortError):
    """Reached and permitted, and it will not have this request: malformed, or in conflict with what it holds."""


class Untrustworthy(PortError):
    """It answered, and the answer fails our own check of it (a signature that does not verify, a certificate for somebody else)."""
