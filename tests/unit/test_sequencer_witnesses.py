"""Publication with witnesses: the quorum, a witness that lies in every way there is, and publication without a quorum, which shows."""

import secrets
from contextlib import asynccontextmanager

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from trio.testing import MockClock

from gatekeeper.ports.errors import Denied, Rejected, Unavailable
from gatekeeper.ports.vault import HeadRecord
from gatekeeper.ports.witness import Cosignatures, OtherRoot, OtherSize, WitnessBusy
from gatekeeper.sequencer.witnessing import BUDGET_S, GRACE_S
from gatekeeper.tlog.checkpoint import Checkpoint, encode_checkpoint
from gatekeeper.tlog.consistency import Growth, encode_growth, parse_growth
from gatekeeper.tlog.logpolicy import open_cosigned
from gatekeeper.tlog.merkle import leaf_hash, node_hash, prove_consistency
from gatekeeper.tlog.note import Note, NoteSignature, encode_note, parse_note
from gatekeeper.tlog.proof import parse_proof
from gatekeeper.tlog.tile import TileEdge
from tests.fakes.running_log import ORIGIN, check_served, log_key, running_log
from tests.fakes.stores import FakeDatabase
from tests.fakes.vault import FakeLogVault
from tests.fakes.witnesses import FakeWitness, away, plan_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class World:
    """A log, a vault, and three witnesses of whom two are the quorum unless a test says otherwise."""

    def __init__(self):
        self.database, self.vault = FakeDatabase(), FakeLogVault()
        self.store = self.database.log(ORIGIN)
        self.witnesses = [FakeWitness(name) for name in ("a", "b", "c")]

    async def plan(self, count=3, quorum=2):
        key = await log_key(self.vault)
        for witness in self.witnesses:
            witness.log_keys = [key]
        return plan_of(key, *self.witnesses[:count], quorum=quorum)

    @asynccontextmanager
    async def running(self, count=3, quorum=2, store=None, open_=False):
        plan = await self.plan(count, quorum)
        async with running_log(store or self.store, self.vault, witnesses=plan) as log:
            if open_:
                log.publish_without_quorum()
            self.policy = plan.policy
            yield log

    @property
    def signatures(self):
        return len({parse_note(note).text for _, note in self.store.rows.notes})


@pytest.fixture
def world():
    return World()


async def add(log, count=1):
    where = None
    for _ in range(count):
        where = await log.append(secrets.token_bytes(9), entry_id=secrets.token_hex(16), kind="intake")
    return where


async def proven(world, log, index):
    """The proof, which must satisfy the policy as a verifier reads it."""
    proof = parse_proof((await log.prove(index)).proof)
    return open_cosigned(proof.checkpoint, world.policy)


def cosigners(note):
    return {line.name.removesuffix(".example") for line in parse_note(note).signatures} - {ORIGIN}


async def no_proof(log, index, match="log-unavailable"):
    with pytest.raises(Unavailable, match=match):
        await log.prove(index)


async def test_a_proof_is_cosigned_by_all_who_answer_and_kept_in_the_history(world):
    async with world.running() as log:
        where = await add(log, 300)
        opened = await proven(world, log, where.index)
        assert opened.size == 301
        assert cosigners(opened.note) == {"a", "b", "c"}
        assert world.store.rows.notes[-1] == (301, opened.note)
        assert parse_note(world.vault.head.note).signatures == parse_note(opened.note).signatures[:1], "the vault locks what was signed"
        await check_served(log, world.vault)


async def test_first_contact_is_learned_from_409_and_after_it_the_size_is_known(world):
    async with world.running() as log:
        await proven(world, log, (await add(log)).index)
    world.witnesses[0].asked.clear()
    async with world.running() as log:  # a new process, which remembers no sizes
        await proven(world, log, (await add(log, 2)).index)
        await proven(world, log, (await add(log, 2)).index)
    assert [parse_growth(body).old for body in world.witnesses[0].asked] == [0, 2, 4]
    assert log.alarm() == "the sequencer is not running"


async def test_one_of_three_may_be_away_and_nobody_waits_long_for_one_that_is_slow(world):
    async def slow(_body):
        await trio.sleep_forever()

    world.witnesses[2].answer = slow
    async with world.running() as log:
        began = trio.current_time()
        opened = await proven(world, log, (await add(log)).index)
        assert cosigners(opened.note) == {"a", "b"}
        assert trio.current_time() - began <= 3 * GRACE_S
        assert log.witnessed().troubles == {"c": "slow"}
        assert log.alarm() is None


async def test_without_a_quorum_nothing_new_is_published_or_signed_and_it_goes_on_with_the_same_note(world):
    async with world.running() as log:
        before = await proven(world, log, 0)
        for witness in world.witnesses[:2]:
            witness.answer = away
        where = await add(log, 3)
        began = trio.current_time()
        await no_proof(log, where.index)
        assert trio.current_time() - began >= 10
        await add(log, 4)
        assert log.published().note == before.note, "readers keep what was published last"
        assert world.signatures == 2, "nothing newer is signed while a note waits"
        assert log.witnessed().quorum_missing
        await trio.sleep(61)
        assert "60 seconds" in log.alarm()
        for witness in world.witnesses:
            witness.answer = witness.honest
        assert (await proven(world, log, where.index)).size in (4, 8)
        assert [size for size, _ in world.store.rows.notes if size > 1][:2] == [4, 4], "first the note that waited, cosigned now"
        assert (await proven(world, log, 7)).size == 8
        assert not log.witnessed().quorum_missing
        assert log.alarm() is None
        await check_served(log, world.vault, older=before.note)


async def test_the_budget_is_a_second_for_all_together(world):
    async def slow(_body):
        await trio.sleep_forever()

    async with world.running(quorum=3) as log:
        await proven(world, log, 0)
        for witness in world.witnesses:
            witness.answer = slow
            witness.asked.clear()
        where = await add(log)
        with trio.move_on_after(BUDGET_S + 0.1):
            await log.prove(where.index)
            pytest.fail("proven without a quorum")
        assert [len(witness.asked) for witness in world.witnesses] == [1, 1, 1], "asked side by side, not one after the other"
        assert log.witnessed().troubles == {"a": "slow", "b": "slow", "c": "slow"}


def wrong_signature(world, witness):
    async def answer(body):
        return Cosignatures((witness.sign(parse_note(parse_growth(body).checkpoint).text, key=Ed25519PrivateKey.generate()),))

    return answer


def of_another_text(world, witness):
    async def answer(body):
        return Cosignatures((witness.sign(b"other\n1\nAAAA\n"),))

    return answer


def by_another_witness(world, witness):
    async def answer(body):
        return Cosignatures((FakeWitness("stranger").sign(parse_note(parse_growth(body).checkpoint).text),))

    return answer


def the_logs_own_line(world, witness):
    async def answer(body):
        return Cosignatures(parse_note(parse_growth(body).checkpoint).signatures)

    return answer


def one_size_after_the_other(world, witness):
    async def answer(body):
        return OtherSize(0 if parse_growth(body).old else 1)

    return answer


def always_the_same_size(world, witness):
    async def answer(body):
        return OtherSize(0)

    return answer


def raising(error):
    def make(world, witness):
        async def answer(body):
            raise error

        return answer

    return make


@pytest.mark.parametrize(
    ("lie", "word"),
    [
        (wrong_signature, "witness-signature"),
        (of_another_text, "witness-signature"),
        (by_another_witness, "witness-signature"),
        (the_logs_own_line, "witness-signature"),
        (one_size_after_the_other, "witness-undecided"),
        (always_the_same_size, "witness-undecided"),
        (raising(Denied("witness-unknown-log")), "witness-unknown-log"),
        (raising(Rejected("witness-rejected")), "witness-rejected"),
        (raising(Unavailable("witness-answer", "too long")), "witness-answer"),
        (raising(WitnessBusy(3)), "witness-busy"),
    ],
)
async def test_a_witness_that_does_not_cosign_counts_for_nothing_and_the_others_go_on(world, lie, word):
    liar = world.witnesses[0]
    liar.answer = lie(world, liar)
    async with world.running() as log:
        opened = await proven(world, log, (await add(log)).index)
        assert cosigners(opened.note) == {"b", "c"}
        # Who does not agree within the grace that the others leave is slow, whatever it says.
        assert log.witnessed().troubles == {"a": "slow" if word == "witness-undecided" else word}
        assert len(liar.asked) <= 3 * 3, "three tries a checkpoint"
    world.witnesses[1].answer = away
    async with world.running() as log:
        await no_proof(log, (await add(log)).index)
        assert log.witnessed().troubles == {"a": word, "b": "witness-unreachable"}
        assert not any(cosigners(note) & {"a"} for _, note in world.store.rows.notes), "what does not verify is not kept"
        assert log.alarm() is None


def larger(world, witness):
    async def answer(body):
        return OtherSize(50)

    return answer


def other_root(world, witness):
    async def answer(body):
        return OtherRoot()

    return answer


def its_own_size_with_another_root(world, witness):
    async def answer(body):
        return OtherSize(int(parse_note(parse_growth(body).checkpoint).text.split(b"\n")[1]))

    return answer


@pytest.mark.parametrize(
    ("claim", "sentence"),
    [(larger, "rewound or forked"), (other_root, "another tree than ours"), (its_own_size_with_another_root, "another tree than ours")],
)
async def test_a_witness_that_knows_more_or_another_tree_stops_the_log_for_good(world, claim, sentence):
    async with world.running() as log:
        before = await proven(world, log, 0)
        world.witnesses[0].answer = claim(world, world.witnesses[0])
        where = await add(log)
        await no_proof(log, where.index, match=sentence)
        assert sentence in log.alarm()
        assert "the witness a" in log.alarm()
        with pytest.raises(Unavailable, match=sentence):
            await add(log)
        assert log.published().note == before.note
        world.witnesses[0].answer = world.witnesses[0].honest
        await trio.sleep(100)
        assert sentence in log.alarm(), "no answer of the witness takes it back"


async def test_a_size_that_another_replica_of_ours_has_shown_to_the_witness_is_no_alarm(world):
    async with world.running(count=1, quorum=1) as log:
        await proven(world, log, 0)
        world.witnesses[0].answer = larger(world, world.witnesses[0])
        where = await add(log)
        newer = FakeDatabase().log(ORIGIN)
        async with running_log(newer, twin := FakeLogVault(world.vault.key)) as other:
            await add(other, 50)
            await other.prove(50)
            head = twin.head
        real, world.vault.read_head = world.vault.read_head, reading(HeadRecord(head.note, world.vault.head.version + 2))
        with trio.move_on_after(3):
            await log.prove(where.index)
        assert log.alarm() is None
        world.vault.read_head = real


def reading(record):
    async def read():
        return record

    return read


async def test_a_witness_that_asks_for_a_pause_gets_it(world):
    witness, times = world.witnesses[0], []

    async def busy(body):
        times.append(trio.current_time())
        if len(times) == 1:
            raise WitnessBusy(3)
        return await witness.honest(body)

    witness.answer = busy
    async with world.running(count=1, quorum=1) as log:
        await proven(world, log, (await add(log)).index)
        assert 3 <= times[1] - times[0] < 4.5


async def test_a_witness_that_forgot_is_brought_up_to_date_and_our_state_does_not_go_back(world, caplog):
    async with world.running(count=1, quorum=1) as log:
        await proven(world, log, (await add(log, 5)).index)
        world.witnesses[0].known.clear()
        opened = await proven(world, log, (await add(log)).index)
        assert cosigners(opened.note) == {"a"}
        assert log.published().size == 7
    assert "has forgotten" in caplog.text


async def test_a_quorum_of_none_collects_what_comes_and_waits_for_nobody(world):
    world.witnesses[1].answer = away
    async with world.running(quorum=0) as log:
        opened = await proven(world, log, (await add(log)).index)
        assert cosigners(opened.note) == {"a", "c"}


@pytest.mark.parametrize("moment", ["before the witnesses", "cosigned, not stored", "stored, not published"])
async def test_a_crash_while_a_note_is_cosigned_is_finished_by_the_next_start_without_a_new_signature(world, moment):
    async with world.running() as log:
        before = await proven(world, log, 0)
        save = world.store.save_checkpoint

        async def stop(*_):
            await trio.sleep_forever()

        if moment == "before the witnesses":
            for witness in world.witnesses:
                witness.answer = stop
        else:

            async def cut(size, note):
                if cosigners(note):
                    if moment == "stored, not published":
                        await save(size, note)
                    await stop()
                await save(size, note)

            world.store.save_checkpoint = cut
        await add(log, 3)
        await trio.sleep(0.9)
        assert log.published().note == before.note
    world.store.save_checkpoint = save
    for witness in world.witnesses:
        witness.answer = witness.honest
        witness.asked.clear()

    async def refuse(_text):
        raise AssertionError("signed again")

    sign, world.vault.sign = world.vault.sign, refuse
    async with world.running() as log:
        with trio.fail_after(5):
            while log.published() is None or log.published().size < 4:  # noqa: ASYNC110 -- no event says so
                await trio.sleep(0.001)
        assert open_cosigned(log.published().note, world.policy).size == 4
        assert bool(world.witnesses[0].asked) is (moment != "stored, not published")
        world.vault.sign = sign
        await proven(world, log, (await add(log)).index)
        await check_served(log, world.vault, older=before.note)


async def test_a_note_of_the_time_before_the_witnesses_is_cosigned_before_it_is_published(world):
    async with running_log(world.store, world.vault) as log:
        await log.prove((await add(log, 2)).index)
        assert cosigners(log.published().note) == set()
    before = world.signatures
    for witness in world.witnesses:
        witness.answer = away
    async with world.running() as log:
        await trio.sleep(2)
        assert log.published() is None
        for witness in world.witnesses:
            witness.answer = witness.honest
        assert (await proven(world, log, 2)).size == 3
    assert world.signatures == before


async def test_a_spoilt_cosignature_in_the_history_is_asked_for_again(world):
    async with world.running(count=1, quorum=1) as log:
        await proven(world, log, 0)
    (size, _), (_, cosigned) = world.store.rows.notes
    line = parse_note(cosigned).signatures[1]
    world.store.rows.notes[1] = (size, cosigned.replace(line.line(), world.witnesses[0].sign(b"other\n").line()))
    async with world.running(count=1, quorum=1) as log:
        assert cosigners((await proven(world, log, 0)).note) == {"a"}


async def test_a_replica_that_follows_publishes_cosigned_notes_alone(world):
    plan = await world.plan()
    async with running_log(world.store, world.vault, witnesses=plan) as leader:
        await leader.prove(0)
        async with running_log(world.database.replica().log(ORIGIN), world.vault, witnesses=plan) as follower:
            world.policy = plan.policy
            where = await add(follower, 2)
            assert cosigners((await proven(world, follower, where.index)).note) == {"a", "b", "c"}
            for witness in world.witnesses:
                witness.answer = away
            where = await add(leader)
            await no_proof(follower, where.index)
            assert open_checkpoint_size(world.vault.head.note) == 4, "signed and kept, and published nowhere"
            assert leader.published().size == follower.published().size == 3


def open_checkpoint_size(note):
    return int(parse_note(note).text.split(b"\n")[1])


async def test_without_a_quorum_publication_goes_on_only_where_it_is_open_and_then_it_shows(world):
    for witness in world.witnesses[:2]:
        witness.answer = away
    async with world.running(open_=True) as log:
        where = await add(log, 2)
        await log.prove(where.index)
        assert cosigners(log.published().note) == {"c"}
        state = log.witnessed()
        assert (state.fail_open, state.published_open, state.quorum_missing) == (True, True, True)
        assert set(state.troubles) == {"a", "b"}
        for witness in world.witnesses:
            witness.answer = witness.honest
        await trio.sleep(10)
        assert cosigners(log.published().note) == {"a", "b", "c"}, "and it is mended without a new signature"
        state = log.witnessed()
        assert (state.published_open, state.quorum_missing, state.troubles) == (False, False, {})
        assert log.published().size == 3
    assert world.signatures <= 2


async def test_while_it_is_open_a_replica_that_follows_goes_on_too_but_gives_the_witnesses_their_time(world):
    plan = await world.plan()
    for witness in world.witnesses:
        witness.answer = away
    async with running_log(world.store, world.vault, witnesses=plan) as leader:
        leader.publish_without_quorum()
        await leader.prove(0)
        async with running_log(world.database.replica().log(ORIGIN), world.vault, witnesses=plan) as follower:
            follower.publish_without_quorum()
            where = await add(leader)
            began = trio.current_time()
            await follower.prove(where.index)
            assert 1.5 < trio.current_time() - began < 4
            assert follower.witnessed().published_open


async def test_an_open_publication_still_stops_at_a_witness_that_knows_more(world):
    async with world.running(open_=True) as log:
        await log.prove(0)
        world.witnesses[0].answer = larger(world, world.witnesses[0])
        await no_proof(log, (await add(log)).index, match="rewound or forked")


async def test_a_thief_of_the_log_key_who_has_his_own_continuation_cosigned_stops_the_log(world):
    """He may be first at the witness, once; from then on it cosigns the true log no more, and everybody hears of it."""
    async with world.running(count=1, quorum=1) as log:
        before = await proven(world, log, (await add(log, 3)).index)
        tree = TileEdge().extend([entry.leaf_hash for entry in world.store.rows.entries])[0]
        stolen = tree.extend([leaf_hash(b"what nobody decided")])[0]
        text = encode_checkpoint(Checkpoint(ORIGIN, stolen.size, stolen.root()))
        note = encode_note(Note(text, (NoteSignature(ORIGIN, world.policy.log.key_id, await world.vault.sign(text)),)))
        nodes = {}

        def node(level, n):
            return nodes[level, n]

        leaves = [*(entry.leaf_hash for entry in world.store.rows.entries), leaf_hash(b"what nobody decided")]
        for nr, leaf in enumerate(leaves):
            nodes[0, nr] = leaf
        for level in (1, 2):
            for nr in range(len(leaves) >> level):
                nodes[level, nr] = node_hash(node(level - 1, 2 * nr), node(level - 1, 2 * nr + 1))
        path = prove_consistency(4, 5, node)
        assert isinstance(await world.witnesses[0].honest(encode_growth(Growth(4, path, note))), Cosignatures)
        await no_proof(log, (await add(log)).index, match="another tree than ours at size 5")
        assert log.published().note == before.note
        assert "forked" in log.alarm()
