"""Store contracts run twice: on the fakes and on a real PostgreSQL."""

from contextlib import AsyncExitStack

import pytest

from gatekeeper.postgres import open_database
from tests.fakes.records import NOW
from tests.fakes.stores import FakeDatabase


class Replicas:
    """Opens replicas over the same rows, and kills them. `now` is everybody's clock."""

    def __init__(self, url, stack):
        self._url, self._stack, self._fake = url, stack, None
        self.now = NOW

    async def open(self):
        if self._url is None:
            self._fake = self._fake.replica() if self._fake else FakeDatabase(lambda: self.now)
            return self._fake
        return await self._stack.enter_async_context(open_database(self._url, clock=lambda: self.now, pool_size=4))

    async def kill(self, database):
        """As kill -9 of the replica: its database session ends, nothing else is said."""
        if isinstance(database, FakeDatabase):
            database.die()
        else:
            await database._session._loop.run(database._session.stop)


@pytest.fixture(params=["fake", "postgres"])
def stores_url(request):
    return request.getfixturevalue("database_url") if request.param == "postgres" else None


@pytest.fixture
async def replicas(stores_url, anyio_backend):
    async with AsyncExitStack() as stack:
        yield Replicas(stores_url, stack)


@pytest.fixture
async def database(replicas):
    return await replicas.open()
