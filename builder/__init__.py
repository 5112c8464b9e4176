"""Builds in a sandbox and signs what it knows itself; holds no deploy credential."""
