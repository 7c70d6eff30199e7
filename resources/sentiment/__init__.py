"""Models that read a text: its tone in [-1, 1], its language.

Belongs here: running a model on texts. Does not: which texts, and the rows that come of it (octopus/alternative_data).
"""
