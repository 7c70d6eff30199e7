"""The crash proof at length: thousands of seeds at each adapter, a chunk of them at a time (proof_counts.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
from crash_proof import prove
from proof_counts import Record, chunks, counted, main
from test_alpaca_crashes import alpaca_stand
from test_bracket_crashes import STANDS as BRACKETS
from test_coinbase_crashes import coinbase_stand
from test_execution_crashes import STANDS
from test_ib_crashes import ib_stand
from test_schwab_crashes import schwab_stand

ADAPTERS = {
    "paper": STANDS["paper"],
    "alpaca": alpaca_stand,
    "ib": ib_stand,
    "coinbase": coinbase_stand,
    "schwab": schwab_stand,
}
OTHERS = ("scheduled", "searchable_tag", "nothing")
LONG = (
    {name: (build, 2000) for name, build in ADAPTERS.items()}
    | {f"bracket-{name}": (build, 1000) for name, build in BRACKETS.items()}
    # A sound run of scheduled orders has some 490 points, at each of which the first seeds cut a worker off.
    | {name: (STANDS[name], 1000 if name == "scheduled" else 500) for name in OTHERS}
)
"""How a stand is built, and how many seeds it goes through."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "seeds"),
    [pytest.param(name, chunk, id=f"{name}-{chunk.start:04}") for name in LONG for chunk in chunks(LONG[name][1])],
)
def test_no_order_is_lost_or_doubled_in_many_seeds(
    database_url: str, tmp_path: Path, record_property: Record, name: str, seeds: range
) -> None:
    build, _ = LONG[name]
    counted(name, seeds, lambda: prove(database_url, tmp_path / "anchor", build, name, seeds).rows(), record_property)


def test_a_chunk_that_held_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "counts"
    monkeypatch.setenv("OCTOPUS_PROOF_COUNTS", str(file))
    told: list[object] = []
    for seeds in chunks(150):
        counted("paper", seeds, lambda seeds=seeds: {"seeds": len(seeds)}, lambda _, counts: told.append(counts))
    with pytest.raises(pytest.skip.Exception, match="held before"):
        counted("paper", range(100), lambda: pytest.fail("run again"), lambda *_: None)
    assert told == [{"paper": {"seeds": 100}}, {"paper": {"seeds": 50}}]
    main(file)
    assert "150  seeds" in capsys.readouterr().out
