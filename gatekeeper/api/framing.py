"""h11 without its leniency: what another parser on the way might read differently is refused before h11 normalises it.

h11 takes a bare LF for a line's end, joins folded lines (obs-fold) and lets control characters pass in values; none of that can be seen in
the request it makes. So the bytes of a head are looked at while they are still bytes, through the public `trailing_data`; they are bounded by
`max_incomplete_event_size`. Trailer fields are refused whole: nobody here reads them, and a proxy might (RFC 9110 6.5.1, RFC 9112 2.2, 5.2, 7.1).
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

import h11

_Next: TypeAlias = h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]

_HEAD_END: Final = b"\r\n\r\n"
# A lone LF, a lone CR (but for the last byte, whose LF may be on its way), a folded line, and control characters other than tab.
_TWO_READINGS: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\r\n[ \t]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# h11 makes one of several lengths that agree; a proxy may take the first, the last, or their sum.
_LENGTH: Final = re.compile(rb"\r\ncontent-length:([^\r]*)", re.IGNORECASE)


class StrictConnection(h11.Connection):
    """The server's side of one HTTP/1.1 connection. `next_event` raises `h11.RemoteProtocolError` (400) where h11 would mend."""

    def next_event(self) -> _Next:
        """See `h11.Connection.next_event`."""
        before = self.trailing_data[0]
        if self.their_state is h11.IDLE and _is_ambiguous(before.partition(_HEAD_END)[0]):
            raise h11.RemoteProtocolError("a head that can be read in two ways", error_status_hint=400)
        if before and self.their_state is h11.MUST_CLOSE and self.our_state in (h11.SEND_RESPONSE, h11.SEND_BODY):
            # What follows the last request is never read. h11 would raise, and hypercorn then close before the answer under way is out.
            return h11.PAUSED
        event = super().next_event()
        if isinstance(event, h11.EndOfMessage):
            taken = before[: len(before) - len(self.trailing_data[0])]
            if event.headers or (taken and not taken.endswith(b"\r\n")):
                raise h11.RemoteProtocolError("trailer fields, or a chunked body that ends in a bare LF", error_status_hint=400)
        return event


def _is_ambiguous(head: bytes) -> bool:
    lengths: list[bytes] = _LENGTH.findall(head)
    return _TWO_READINGS.search(head) is not None or len(lengths) > 1 or any(b"," in length for length in lengths)
