"""The `settings` part: configuration and secrets of one deployment, as `KEY=VALUE` lines. Errors never hold a value."""

from __future__ import annotations

import re
from typing import Final

MAX_LINES: Final = 1000

_KEY: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")

# No receipt names the settings, so whoever stole a credential and a fresh receipt could choose them. None may therefore decide which code
# runs: what loaders and interpreters read is not a setting. PORT and PATH are ours.
_FORBIDDEN: Final = re.compile(
    r"PORT|PATH|IFS|ENV|BASH_ENV|SHELLOPTS|BASHOPTS|LOCPATH|PERLLIB|RUBYOPT|RUBYLIB|NODE_OPTIONS|NODE_PATH"
    r"|JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|JDK_JAVA_OPTIONS|(?:LD_|DYLD_|PYTHON|PERL5|GEM_|GLIBC_|GCONV_|MALLOC_).*"
)


class MalformedSettings(ValueError):
    """Not `KEY=VALUE` lines, or a key that is not the configuration's to set."""


def parse_settings(data: bytes) -> dict[str, str]:
    """Read the part. Raises `MalformedSettings` naming the line, never its value."""
    if not data:
        return {}
    if not data.endswith(b"\n"):
        raise MalformedSettings("settings: the last line has no end")
    settings: dict[str, str] = {}
    lines = data[:-1].split(b"\n")
    if len(lines) > MAX_LINES:
        raise MalformedSettings(f"settings: more than {MAX_LINES} lines")
    for number, line in enumerate(lines, 1):
        key, value = _line(line, number)
        if key in settings:
            raise MalformedSettings(f"settings: line {number} sets {key} again")
        settings[key] = value
    return settings


def _line(line: bytes, number: int) -> tuple[str, str]:
    try:
        key, equals, value = line.decode("utf-8").partition("=")
    except UnicodeDecodeError:
        raise MalformedSettings(f"settings: line {number} is not UTF-8") from None
    if not equals or _KEY.fullmatch(key) is None:
        raise MalformedSettings(f"settings: line {number} is not KEY=VALUE with a key of A-Z, 0-9 and _")
    if _FORBIDDEN.fullmatch(key) is not None:
        raise MalformedSettings(f"settings: line {number}: {key} is not the configuration's to set")
    if any(ord(c) < 0x20 and c != "\t" for c in value):
        raise MalformedSettings(f"settings: line {number}: {key} holds a control character")
    return key, value
