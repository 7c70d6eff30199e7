"""Secrets: from environment variables, when they are used.

Belongs here: reading one. Does not: keeping, printing or checking them.
"""

from __future__ import annotations


def secret(name: str) -> str | None:
    """A secret from its environment variable, read now and stored nowhere."""
    import dagster as dg

    return dg.EnvVar(name).get_value()
