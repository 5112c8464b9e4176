"""What the gatekeeper counts about itself, as the anonymous Viewer may see it (interfaces, section 7).

Counted from the records at each scrape, over public pings only: a replica that restarts forgets nothing, and labelled work moves no number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from gatekeeper.model.label import ANONYMOUS
from gatekeeper.model.reason import REASONS
from gatekeeper.ports.pings import PingFilter

from .parts import Parts

_WINDOW: Final = 200


class Metrics:
    """Prometheus text of one instance. Label values come from closed sets: environments of the policy, states, reason codes."""

    def __init__(
        self,
        parts: Parts,
        published: Callable[[], tuple[int, float] | None],
        version: str,
        *,
        alarm: Callable[[], str | None] = lambda: None,
        witnesses: Callable[[], Mapping[str, bool]] = dict,
    ) -> None:
        """`published` gives size and time of the newest checkpoint; `alarm` the sentence that an operator of the log must read, if any.

        `witnesses` gives flags of closed names about the log's witnesses.
        """
        self._witnesses = witnesses
        self._parts = parts
        self._alarm = alarm
        self._published = published
        self._version = version

    async def render(self) -> str:
        """The exposition text; raises `PortError` when the database is away."""
        states: Counter[tuple[str, str]] = Counter()
        reasons: Counter[tuple[str, str]] = Counter()
        environments = self._parts.policy.current().environments
        for environment in environments:
            for ping in await self._parts.pings.list_pings(PingFilter(environment=environment, limit=_WINDOW), ANONYMOUS):
                states[environment, ping.state.value] += 1
                for reason in REASONS.keys() & ping.reasons:
                    reasons[environment, reason] += 1
        lines = ["# TYPE pingee_build_info gauge", f'pingee_build_info{{version="{self._version}"}} 1']
        lines.append("# HELP pingee_ping_states newest 200 public pings of each environment by state")
        lines.append("# TYPE pingee_ping_states gauge")
        lines += [f'pingee_ping_states{{environment="{e}",state="{s}"}} {n}' for (e, s), n in sorted(states.items())]
        lines.append("# HELP pingee_ping_reasons newest 200 public pings of each environment by reason")
        lines.append("# TYPE pingee_ping_reasons gauge")
        lines += [f'pingee_ping_reasons{{environment="{e}",reason="{r}"}} {n}' for (e, r), n in sorted(reasons.items())]
        lines += ["# HELP pingee_log_alarm 1 while the log needs an operator: see the gatekeeper's own log", "# TYPE pingee_log_alarm gauge"]
        lines.append(f"pingee_log_alarm {int(self._alarm() is not None)}")
        for name, value in sorted(self._witnesses().items()):
            lines += [f"# TYPE pingee_log_{name} gauge", f"pingee_log_{name} {int(value)}"]
        published = self._published()
        if published is not None:
            size, at = published
            lines += ["# TYPE pingee_log_tree_size gauge", f"pingee_log_tree_size {size}"]
            lines += ["# TYPE pingee_log_checkpoint_timestamp_seconds gauge", f"pingee_log_checkpoint_timestamp_seconds {at:.0f}"]
        return "\n".join(lines) + "\n"
