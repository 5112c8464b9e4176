"""Where statements are verified, with real threads: decisions and callers do not wait for each other."""

import threading

import trio

from gatekeeper.deploy.facts import Facts


async def test_a_decision_waits_for_no_caller_whose_statement_is_verified():
    facts, begun, decided, held = Facts(), trio.Event(), threading.Event(), []

    def of_a_caller():
        trio.from_thread.run_sync(begun.set)
        return decided.wait(30)

    async def ask():
        held.append(await facts.in_thread(of_a_caller))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
        await begun.wait()
        try:
            with trio.fail_after(20):
                assert await facts.in_thread(lambda: "decided", deciding=True) == "decided"
        finally:
            decided.set()
    assert held == [True] * 3
