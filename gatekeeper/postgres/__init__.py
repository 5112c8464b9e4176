"""PostgreSQL behind the ports: pings, locks, statements, deployments, people, and the rows of the log. The only importer of asyncpg.

`open_database` migrates, checks the server's settings and gives a `Database` with the attributes `pings`, `locks`, `statements`,
`deployments`, `people` and the method `log(origin)`.
"""

from .database import Database, UnsafeDatabase, open_database
from .migrate import SchemaMismatch, migrate

__all__ = ["Database", "SchemaMismatch", "UnsafeDatabase", "migrate", "open_database"]
