"""Measurements beside named peers: `make bench`.

Belongs here: timing our work and a peer's on the same data in the same run, as ratios. Does not: assertions.
"""
