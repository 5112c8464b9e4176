"""Names of settings: what a configuration may put into a workload's environment. One rule for the policy's loader and for the target."""

from __future__ import annotations

import re
from typing import Final

_NAME: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")

# What loaders and interpreters read decides which code runs, and that is the artifact's to say, bound by its digest. PORT and PATH are ours.
_FORBIDDEN: Final = re.compile(
    r"PORT|PATH|IFS|ENV|BASH_ENV|SHELLOPTS|BASHOPTS|LOCPATH|PERLLIB|RUBYOPT|RUBYLIB|NODE_OPTIONS|NODE_PATH"
    r"|JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|JDK_JAVA_OPTIONS|(?:LD_|DYLD_|PYTHON|PERL5|GEM_|GLIBC_|GCONV_|MALLOC_).*"
)


def doubt_setting_name(name: str) -> str | None:
    """Why a setting cannot have this name; None where it can. Holds the name only if it is one that is refused by name: another may be anything."""
    if _NAME.fullmatch(name) is None:
        return "is not the name of a setting (capitals, digits and '_', at most 64, no digit first)"
    if _FORBIDDEN.fullmatch(name) is not None:
        return f"{name} is not the configuration's to set: loaders and interpreters read it"
    return None


def doubt_setting_value(value: str) -> str | None:
    """Why a setting cannot have this value, in words that do not hold it; None where it can."""
    return "holds a control character" if any(ord(c) < 0x20 and c != "\t" for c in value) else None
