"""Where the data that travels with Pingee lies: vault policies and examples.

In an installed wheel both are directories inside this package; in a source tree they stand at its root, where people edit them.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

_PACKAGE: Final = files(__package__)


class NotShipped(LookupError):
    """Nothing of that name came with this installation."""


def vault_policies() -> Traversable:
    """The directory of the vault's policies, roles and their table.

    Raises:
        NotShipped: the installation is incomplete.
    """
    return _shipped("vault-policies")


def example(name: str) -> Traversable:
    """The directory `examples/<name>`, such as `hello` or `policy`.

    Raises:
        NotShipped: there is no example of that name; a name with a path separator is never one.
    """
    if name in {"", ".", ".."} or "/" in name or "\\" in name:
        raise NotShipped(f"no example is called {name!r}")
    shipped = _shipped("examples") / name
    if not shipped.is_dir():
        raise NotShipped(f"no example is called {name!r}")
    return shipped


def _shipped(directory: str) -> Traversable:
    inside = _PACKAGE / directory
    if inside.is_dir():
        return inside
    # A source tree or an editable installation: the package is a real directory there, and `..` names the tree's root.
    beside = _PACKAGE / ".." / directory
    if beside.is_dir():
        return beside
    raise NotShipped(f"{directory} is missing from this installation of Pingee")
