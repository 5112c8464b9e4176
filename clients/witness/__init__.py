"""`pingee-witness`: a C2SP tlog-witness on SQLite, so that two teams can witness each other's logs."""
