"""M11 Alternative Data: what news, posts and sentiment scores look like, and when one of them is refused.

Belongs here: schemas, validation, linking of texts to instruments, score rows. Does not: fetching texts
(resources/sources), scoring them (resources/sentiment).
"""
