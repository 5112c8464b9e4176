"""Where an OCI registry is, and which hosts beside it may hear or send something."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_URL: Final = re.compile(r"https://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::(?P<port>[0-9]{1,5}))?(?:[/?][!-~]*)?")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?")
_REPOSITORY: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")


@dataclass(frozen=True)
class RegistryAddress:
    """A repository of a registry and everything that may be told to it. Raises `ValueError` for a URL or a name of another form."""

    url: str
    """an https origin, without a path"""
    repository: str
    ca_file: Path | None = None
    """PEM; None: the public CAs that the package certifi has"""
    username: str = ""
    password: str = field(default="", repr=False)
    """empty: nothing is ever sent but a request for an anonymous token"""
    token_hosts: tuple[str, ...] = ()
    """HOST or HOST:PORT beside the registry that may be shown the password, as the realm of its tokens"""
    blob_hosts: tuple[str, ...] = ()
    """HOST or HOST:PORT to which the registry may redirect a download; they are shown no credential"""

    def __post_init__(self) -> None:
        if origin_of(self.url) is None or self.url.count("/") != 2:
            raise ValueError("url must be an https origin without a path")
        if _REPOSITORY.fullmatch(self.repository) is None or len(self.repository) > 200:
            raise ValueError("repository must be a name of OCI distribution 1.1: lower case, digits, . _ - and /")
        for host in (*self.token_hosts, *self.blob_hosts):
            if _HOST.fullmatch(host) is None:
                raise ValueError(f"{host} is not HOST or HOST:PORT")


def origin_of(url: str) -> str | None:
    """`host:port` of an https URL that all readers read alike, else None: no user, no odd character, no other scheme."""
    found = _URL.fullmatch(url)
    if found is None or not 0 < (port := int(found["port"] or 443)) < 65536:
        return None
    return f"{found['host'].lower()}:{port}"
