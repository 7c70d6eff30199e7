"""M1 Data Collector: what instruments, daily bars and corporate actions look like and when one of them is refused.

Belongs here: schemas, validation and conversion of market data. Does not: fetching it (resources/sources).
"""
