"""M10 Backtester: what the one decision function would have earned, after costs, and how much to believe it.

Belongs here: simulation by two engines (simulator.py: vectorised; events.py: event by event, with the gates) and their
reconciliation, performance measures, analysis, the tear sheet. Does not: deciding (octopus/decision.py), walk-forward
training (octopus/models), storing.
"""
