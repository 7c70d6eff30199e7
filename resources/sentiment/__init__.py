"""Models that give a text a tone in [-1, 1].

Belongs here: running a model on texts. Does not: which texts, and the rows that come of it (octopus/alternative_data).
"""
