"""How a run ends when it cannot go on: a code, and one sentence that says what is wrong and what would be right."""

from __future__ import annotations


class BuildFault(Exception):
    """The run cannot reach a verdict: bad document, unknown commit, no sandbox, refused submission. Exit status 1."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code = code
        self.sentence = sentence


class BuildFailed(BuildFault):
    """The repository's own commands, or their outputs, failed: a verdict about the commit. Exit status 3."""
