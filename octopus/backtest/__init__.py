"""M10 Backtester: what the one decision function would have earned, after costs, and how much to believe it.

Belongs here: simulation, performance measures, the tear sheet. Does not: deciding (octopus/decision.py), walk-forward
training (octopus/models), storing.
"""
