"""Tests of every floor; a package, for an installed one of the same name would stand in its place."""
