"""Code of the modules under test as it is loaded: with probes that tell which statements ran, or with one mutant in it.

`Instrumented` takes the place of the loader's own reading of the chosen files; nothing is ever written to them. A mutant then comes into a process
in one of two ways: `replace_functions` gives live functions the mutant's code (in a fork of a process that imported everything), or the module is
loaded as mutant from its first import on (`Instrumented.mutant`), for what runs while tests are collected.
"""

from __future__ import annotations

import ast
import builtins
import functools
import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from tests.mutants.mutate import blocks, mutated

PROBE = "pingee_mutants_ran"
ROOMS_WITH_CACHES = ("gatekeeper", "builder", "clients", "tests")

Place = tuple[str, int]
"""A file, relative to the repository, and the first line of a statement."""


@dataclass
class Instrumented:
    """The files whose loading is changed, by absolute path, with their names; `ran` are the places met since it was last cleared."""

    files: Mapping[str, str]
    mutant: tuple[str, int] | None = None
    ran: set[Place] = field(default_factory=set)

    def install(self) -> None:
        """Load these files so from now on; those loaded before stay as they are."""
        setattr(builtins, PROBE, self.ran.add)
        plain = SourceFileLoader.get_code

        def get_code(loader: SourceFileLoader, fullname: str) -> CodeType | None:
            path = loader.get_filename(fullname)
            name = self.files.get(path)
            return plain(loader, fullname) if name is None else self.compiled(path, name)

        SourceFileLoader.get_code = get_code  # type: ignore[method-assign]

    def compiled(self, path: str, name: str) -> CodeType:
        """The code of a file as it is to be loaded."""
        source = Path(path).read_text(encoding="utf-8")
        if self.mutant is not None and self.mutant[0] == name:
            return compile(mutated(source, self.mutant[1]), path, "exec", dont_inherit=True)
        return compile(probed(source, name), path, "exec", dont_inherit=True)


def probed(source: str, name: str) -> ast.Module:
    """The module with a probe before each statement of each function."""
    tree = ast.parse(source)
    for node in list(ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            _probe(node.body, name)
    return ast.fix_missing_locations(tree)


def _probe(body: list[ast.stmt], name: str) -> None:
    for statement in list(body):
        if isinstance(statement, ast.Global | ast.Nonlocal):
            continue
        place = ast.Tuple([ast.Constant(name), ast.Constant(statement.lineno)], ast.Load())
        probe = ast.Expr(ast.Call(ast.Name(PROBE, ast.Load()), [place], []))
        position = body.index(statement)
        body.insert(position + _is_docstring(statement, position), ast.copy_location(probe, statement))
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for block in blocks(statement):
                _probe(block, name)


def _is_docstring(statement: ast.stmt, position: int) -> bool:
    return position == 0 and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


Key = tuple[str, str, int]
"""Path, qualified name and first line of a function's code: the same in the original, with probes and in every mutant."""


def live_functions(paths: Mapping[str, str]) -> dict[Key, list[FunctionType]]:
    """Every function alive whose code is of one of these files."""
    found: dict[Key, list[FunctionType]] = {}
    for function in gc.get_objects():
        if type(function) is FunctionType and function.__code__.co_filename in paths:
            found.setdefault(_key(function.__code__), []).append(function)
    return found


def replace_functions(live: Mapping[Key, list[FunctionType]], path: str, number: int, function: str) -> None:
    """Give the live functions of one definition, and those inside it, the code of a mutant. There is no way back."""
    tree = mutated(Path(path).read_text(encoding="utf-8"), number)
    for code in _codes(compile(tree, path, "exec", dont_inherit=True)):
        name = code.co_qualname.replace(".<locals>", "")
        if function == name or function.startswith(name + ".") or name.startswith(function + "."):
            for one in live.get(_key(code), ()):
                one.__code__ = code


def live_caches() -> list[Any]:
    """Every `functools.cache` of ours and of the tests: what one holds was computed with other code, or hides what a test runs."""
    kind = functools._lru_cache_wrapper
    return [one for one in gc.get_objects() if isinstance(one, kind) and one.__module__.partition(".")[0] in ROOMS_WITH_CACHES]


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _key(code: CodeType) -> Key:
    return code.co_filename, code.co_qualname, code.co_firstlineno
