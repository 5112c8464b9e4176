"""What every program that checks a whole log needs around `tlog.fsck`: sources, ids that do not fill the memory, progress, the report.

The standard library and `tlog` alone, so that `clients.offline` can use it.
"""
