"""What a deployment puts into its workload's environment.

Plain values come from the environment's configuration, whose bytes the decision names; secrets come in the `settings` part, as `KEY=VALUE`
lines, and are exactly those that the configuration names. So whoever stole a credential and a fresh receipt can choose no plain value and no
name; the values of secrets are the vault's word alone. Errors never hold a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gatekeeper.model.setting import doubt_setting_name, doubt_setting_value
from gatekeeper.model.verified import Refusal
from gatekeeper.policy.document import Configuration

MAX_LINES: Final = 1000


class MalformedSettings(ValueError):
    """Not `KEY=VALUE` lines, or a key that is not the configuration's to set."""


def parse_settings(data: bytes) -> dict[str, str]:
    """Read such lines: the part, or the file of a release. Raises `MalformedSettings` naming the line, never its value."""
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
    if not equals:
        raise MalformedSettings(f"settings: line {number} is not KEY=VALUE")
    if doubt := doubt_setting_name(key):
        raise MalformedSettings(f"settings: line {number}: {doubt}")
    if doubt := doubt_setting_value(value):
        raise MalformedSettings(f"settings: line {number}: {key} {doubt}")
    return key, value


def join_settings(configuration: Configuration, secrets: Mapping[str, str]) -> bytes | Refusal:
    """The file of a release: the configuration's plain values and these secrets; a refusal unless they are the ones it names."""
    if missing := configuration.secrets - set(secrets):
        return Refusal("config-secret-refused", f"the configuration names the secret {min(missing)}, which did not come")
    if further := set(secrets) - configuration.secrets:
        return Refusal("config-secret-refused", f"{min(further)} came as a secret, and the configuration names no such secret")
    settings = {**configuration.values, **secrets}
    return "".join(f"{name}={settings[name]}\n" for name in sorted(settings)).encode()
