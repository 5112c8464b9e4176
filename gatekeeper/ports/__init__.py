"""What the use cases ask of the world; each docstring is the contract."""
