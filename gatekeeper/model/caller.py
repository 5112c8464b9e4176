"""Who calls: a run of a CI platform, or a person. Read from a verified token, never from a body."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import TypeAlias

from .moment import Moment


@unique
class CallerKind(StrEnum):
    """Whom an issuer speaks for; one issuer never speaks for both."""

    RUN = "run"
    PERSON = "person"


@dataclass(frozen=True)
class RunCaller:
    """One run of a pipeline. `issuer` is the issuer's name in the policy, not its URL."""

    issuer: str
    subject: str
    project: str
    commit: str
    """full git object id that the token speaks for; empty where such a token names none, and the policy takes it all the same"""
    run: str
    actor: str
    """whom the platform names as having caused the run: the uploader"""
    ref: str
    builder_id: str
    jti: str
    """the token's own id, or ``sha256:`` of its signed part where it has none: what one-use is counted by"""
    expires: Moment
    project_id: str = ""
    """the platform's number for the project, which survives renaming; empty where it gives none"""
    recipe: str = ""
    """what the platform names as the definition that the run follows; empty where the token names the builder itself"""


@dataclass(frozen=True)
class PersonCaller:
    """A person. `name` is the issuer's name for them; who they are in the policy is decided by issuer and subject together."""

    issuer: str
    subject: str
    name: str
    groups: frozenset[str]
    expires: Moment
    jti: str
    email: str = ""


Caller: TypeAlias = RunCaller | PersonCaller
