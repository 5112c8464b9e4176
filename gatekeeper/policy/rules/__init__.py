"""One file for each table of the decision rules."""
