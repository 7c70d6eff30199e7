"""What every group shares: errors, sessions, panels, orders, statistics and identifiers.

Belongs here: an idea that at least two group packages need. Does not: anything that only one group needs.
"""
