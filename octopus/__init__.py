"""What trading knows: pure types and functions, one package per agent's group.

Belongs here: decisions, measures, rules and state machines as functions of their arguments.
Does not: Dagster, files, sockets, databases, the wall clock or environment variables. A group package imports
`octopus.core` and nothing else of the house; only `octopus.decision` and `octopus.backtest` compose the groups.
"""
