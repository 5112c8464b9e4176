"""The pingee: decides, logs, and only then deploys."""
