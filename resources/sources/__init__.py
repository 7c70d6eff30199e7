"""Sources of market data, news and social posts, each an object of its own that fails alone.

Belongs here: talking to vendors and turning their answers into frames. Does not: storing them (resources/warehouse).
"""
