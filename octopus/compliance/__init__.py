"""M9 Compliance: what law, venue and house allow this account to send, and a record that cannot be altered unseen.

Belongs here: the effective-dated policy, the pre-trade gate, the audit log's hash chain. Does not: limits on loss and
exposure (octopus/risk), storing the log (resources/warehouse).
"""
