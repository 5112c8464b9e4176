"""`python -m clients.offline`."""

from .main import main

raise SystemExit(main())
