"""The list of planted faults stays true: each can be planted, and the test that is to find it exists.

That each is found is shown by `make mutations`, which takes minutes.
"""

from __future__ import annotations

from collections import Counter

from benchmarks.mutations import MUTATIONS, ROOT


def test_every_fault_can_be_planted_and_changes_its_file() -> None:
    for mutation in MUTATIONS:
        assert mutation.file().is_file()
        assert mutation.old != mutation.new


def test_every_fault_has_a_name_of_its_own_and_a_test_that_exists() -> None:
    assert max(Counter(mutation.name for mutation in MUTATIONS).values()) == 1
    assert len(MUTATIONS) >= 25
    for mutation in MUTATIONS:
        path, _, name = mutation.test.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), mutation.test
