"""The command line: what a user types and reads.

Belongs here: arguments, progress, summaries and error lines. Does not: work that a job or a resource does.
"""
