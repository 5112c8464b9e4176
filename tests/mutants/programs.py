"""The doorkeeper called as a program, as a fork of the process that tests it: there it is the mutant that runs, and what it ran is seen.

A new interpreter would load the code from its files. The fork has the descriptors, directory, group and environment that the caller asked for,
before the program's `main` is called; it closes everything else, as a program starts, and ends with its exit code.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.mutants.live import Place

PROGRAMS = ("clients.doorkeeper.cli",)
_SEEN = "ran-"


class Programs:
    """Puts itself into the place of `subprocess.Popen`; `ran` is the set that the process notes its places in, `fresh` is called in each fork."""

    def __init__(self, ran: set[Place], fresh: Callable[[], None]) -> None:
        self._ran, self._fresh = ran, fresh

    def install(self) -> None:
        plain, become = subprocess.Popen, self._become

        class Forking(plain):  # type: ignore[misc, valid-type]
            def __init__(self, args: Any, *more: Any, **options: Any) -> None:
                if isinstance(args, list) and args[:2] == [sys.executable, "-m"] and args[2] in PROGRAMS and not more:
                    options["preexec_fn"] = partial(become, args[2], args[3:], options.get("env"))
                super().__init__(args, *more, **options)

        subprocess.Popen = Forking  # type: ignore[misc]

    def collect(self) -> None:
        """Add what the programs ran that have ended since; one that was killed tells nothing."""
        for file in Path(tempfile.gettempdir()).glob(f"{_SEEN}*"):
            with suppress(OSError, EOFError, pickle.UnpicklingError):
                self._ran |= pickle.loads(file.read_bytes())
            file.unlink(missing_ok=True)

    def _become(self, module: str, words: Sequence[str], environment: Mapping[str, str] | None) -> None:
        code = 1
        try:
            os.closerange(3, 65536)
            if environment is not None:
                os.environ.clear()
                os.environ.update(environment)
            sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode, closefd=False) for number, mode in enumerate(("r", "w", "w")))
            sys.argv = [module, *words]
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._fresh()
            self._ran.clear()
            try:
                code = import_module(module).main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            sys.stdout.flush()
        except BaseException:  # noqa: BLE001 -- what a program dies of is told on its standard error, and never goes on in the caller's code
            with suppress(Exception):
                traceback.print_exc()
        finally:
            with suppress(Exception):
                self._note()
            os._exit(code)

    def _note(self) -> None:
        name = Path(tempfile.gettempdir()) / f"{_SEEN}{os.getpid()}"
        part = name.with_name(f".{name.name}")
        part.write_bytes(pickle.dumps(self._ran))
        part.replace(name)
