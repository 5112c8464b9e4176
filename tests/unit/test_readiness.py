"""What a replica says of its parts: a word of a closed set for every way in which one can be wrong, and "cannot tell" where another is away."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import trio
from trio.testing import MockClock

from gatekeeper import readiness
from gatekeeper.adapters.git_policy import GitPolicySource
from gatekeeper.api.operator import PROBE_S, _words, build_operator_app
from gatekeeper.model.readiness import NEEDED, Part, Word
from gatekeeper.policy.load import PolicyError
from gatekeeper.ports.errors import Denied, Rejected, Unavailable, Untrustworthy
from gatekeeper.ports.target import TargetUnavailable
from gatekeeper.readiness import Watched, expiry, probes, skew
from gatekeeper.sequencer import Witnessed

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


AWAY = Unavailable("environment-unavailable", "away")


def giving(value):
    async def call(*_):
        if isinstance(value, Exception):
            raise value
        return value

    return call


def test_a_replica_is_ready_by_its_needed_parts_alone():
    watched = Watched(
        database=SimpleNamespace(), sequencer=SimpleNamespace(), vault=None, vault_log=SimpleNamespace(public_key=None),
        vault_decide=SimpleNamespace(public_key_pem=None), vault_act=SimpleNamespace(write=giving(None)), policy=None, policy_trouble=None, certificate=None,
        target=None, addresses={"web-1": None, "db-1": None}, clock=None,
    )  # fmt: skip
    needed, details = probes(watched)
    assert set(needed) == NEEDED
    assert list(details)[-2:] == ["target:db-1", "target:web-1"]
    assert {name.partition(":")[0] for name in (*needed, *details)} == set(Part)


@pytest.mark.parametrize(
    ("raised", "word"),
    [
        (None, Word.OK),
        (Denied("vault-denied"), Word.REFUSED),
        (Rejected("vault-absent"), Word.REFUSED),
        (Untrustworthy("key-differs"), Word.KEY_DIFFERS),
        (Untrustworthy("vault-answer"), Word.FAILING),
        (Unavailable("vault-down"), Word.CANNOT_TELL),
        (Unavailable("vault-unreachable"), Word.CANNOT_TELL),
    ],
)
async def test_a_login_is_refused_differs_or_cannot_be_told(raised, word):
    assert await readiness._login(giving(raised)) is word


async def test_what_hangs_behind_another_part_cannot_be_told():
    assert await readiness._through(trio.sleep_forever) is Word.CANNOT_TELL
    assert trio.current_time() < PROBE_S
    assert await _words({"a": trio.sleep_forever, "b": giving(Word.OK), "c": giving(None), "d": giving(ValueError("canary"))}) == {
        "a": Word.SLOW, "b": Word.OK, "c": Word.OK, "d": Word.FAILING,
    }  # fmt: skip


async def test_the_database_its_schema_and_its_clock():
    database = SimpleNamespace(ready=giving(None), missing_migrations=giving(()), now=giving(NOW + timedelta(seconds=11)))
    assert await readiness._database(database) is Word.OK
    assert await readiness._schema(database) is Word.OK
    assert await readiness._database_clock(database, lambda: NOW) is Word.AHEAD
    database = SimpleNamespace(ready=giving(AWAY), missing_migrations=giving(AWAY), now=giving(AWAY))
    assert await readiness._database(database) is Word.UNREACHABLE
    assert await readiness._schema(database) is Word.CANNOT_TELL
    assert await readiness._database_clock(database, lambda: NOW) is Word.CANNOT_TELL
    assert await readiness._schema(SimpleNamespace(missing_migrations=giving(("0002_pre_x",)))) is Word.MIGRATION_NEEDED


@pytest.mark.parametrize(
    ("late", "alarm", "published", "word"),
    [(False, None, 1, Word.OK), (True, "late", 1, Word.BEHIND), (False, "the log contradicts itself", 1, Word.STOPPED), (False, None, None, Word.UNPUBLISHED)],
)
async def test_the_log(late, alarm, published, word):
    sequencer = SimpleNamespace(late=lambda: late, alarm=lambda: alarm, published=lambda: published)
    assert await readiness._log(sequencer) is word


@pytest.mark.parametrize(
    ("state", "logged", "word"),
    [
        (Witnessed(), None, Word.OK),
        (Witnessed(), True, Word.OK),
        (Witnessed(troubles={"a": "slow"}), True, Word.UNREACHABLE),
        (Witnessed(quorum_missing=True, troubles={"a": "slow"}), True, Word.NO_QUORUM),
        (Witnessed(), False, Word.UNLOGGED),
        (Witnessed(fail_open=True), True, Word.OPEN),
        (Witnessed(fail_open=True, published_open=True, quorum_missing=True), True, Word.OPEN),
    ],
)
async def test_the_witnesses(state, logged, word):
    assert await readiness._witnesses(SimpleNamespace(witnessed=lambda: state), lambda: logged) is word


@pytest.mark.parametrize("code", ["config-rewound", "config-unreviewed", "config-invalid", "config-unavailable"])
async def test_why_the_newest_policy_is_not_in_force(code):
    assert await readiness._policy(lambda: code) == code
    assert await readiness._policy(lambda: None) is Word.OK


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PolicyError("c", "goes back", "config-rewound"), "config-rewound"),
        (Unavailable("config-unavailable", "away"), "config-unavailable"),
        (None, None),
    ],
)
async def test_a_policy_source_remembers_why(error, code):
    source = GitPolicySource.__new__(GitPolicySource)
    source.trouble = "config-invalid"
    source._refresh = giving(error)
    if error is None:
        await source.refresh()
    else:
        with pytest.raises(type(error)):
            await source.refresh()
    assert source.trouble == code


@pytest.mark.parametrize(("given", "word"), [(True, Word.OK), (False, Word.UNTRUSTED), (TargetUnavailable("away"), Word.UNREACHABLE)])
async def test_a_target(given, word):
    assert await readiness._target(SimpleNamespace(shows_pinned_key=giving(given)), None) is word


async def test_a_certificate_that_is_gone_or_none(tmp_path):
    assert await readiness._certificate(None, lambda: NOW) is Word.CANNOT_TELL
    (tmp_path / "tls.pem").write_text("no certificate")
    assert await readiness._certificate(tmp_path / "tls.pem", lambda: NOW) is Word.FAILING
    assert await readiness._certificate(tmp_path / "none.pem", lambda: NOW) is Word.FAILING


@pytest.mark.parametrize(("seconds", "word"), [(10, Word.OK), (-10, Word.OK), (11, Word.AHEAD), (-11, Word.BEHIND)])
def test_skew_has_a_way_and_a_bound(seconds, word):
    assert skew(NOW + timedelta(seconds=seconds), NOW) is word


@pytest.mark.parametrize(
    ("days", "word"), [((15,), Word.OK), ((15, 14), Word.EXPIRING), ((14, 0), Word.EXPIRED), ((-1,), Word.EXPIRED), ((), Word.OK)]
)
def test_the_worst_certificate_counts(days, word):
    assert expiry([SimpleNamespace(not_valid_after_utc=NOW + timedelta(days=n)) for n in days], NOW) is word


async def test_details_are_asked_only_when_they_are_asked_for():
    asked = []

    async def detail():
        asked.append(1)
        return Word.SEALED

    client = build_operator_app({"database": giving(None)}, None, {"vault": detail})._app.test_client()
    answer = await client.get("/readyz")
    assert (answer.status_code, await answer.get_data(), asked) == (200, b"ready\n", [])
    answer = await client.get("/readyz?verbose")
    # A sealed vault is told and does not take the replica out of service by itself: its logins do.
    assert (answer.status_code, await answer.get_data(), asked) == (200, b"database ok\nvault sealed\nready\n", [1])
