"""The figures of `quality.py` as tables, on the screen or as Markdown for docs/quality.md.

Belongs here: intervals, sums over vendors, rounding, layout. Does not: measuring.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.price_histories import NEW, SPLIT
from benchmarks.quality import Recall, Result, Untouched
from octopus.warehouse.quality import Kind

AIM = 0.95
COINS = "coins"


@dataclass(frozen=True)
class Table:
    """A title, the names of the columns, and rows of text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson 1927)."""
    if not trials:
        return 0.0, 1.0
    z, share = 1.959964, hits / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))


def poisson(count: int) -> tuple[float, float]:
    """Exact 95 % interval of the mean of a Poisson count (Garwood 1936)."""
    from scipy.stats import chi2

    return float(chi2.ppf(0.025, 2 * count) / 2) if count else 0.0, float(chi2.ppf(0.975, 2 * count + 2) / 2)


def tables(result: Result) -> list[Table]:
    """The tables of one half that fit on a page."""
    found = [_untouched(result.untouched), _recalls("Kinds and magnitudes below 95 %", result.recalls, below=True)]
    beyond = _beyond([*result.peers, *result.second])
    return [*found, _by_kind(result.recalls), _precision(result), beyond, *_yahoo(result)]


def printed(result: Result) -> None:
    """Print all tables, and every kind at every magnitude."""
    console = Console(width=150)
    for table in [_recalls("Every kind and magnitude", result.recalls, below=False), *tables(result)]:
        shown = RichTable(*table.columns, title=f"{table.title} ({result.half} half, split {SPLIT})")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    for one in (*result.untouched, *result.peers, *result.second):
        console.print(f"on untouched {one.base}: {', '.join(one.findings) or 'nothing'}")
        console.print(f"and withdrawn: {', '.join(one.withdrawn) or 'nothing'}")
    if result.sound:
        console.print(f"on Yahoo's sound histories: {', '.join(result.sound.findings) or 'nothing'}")


def markdown(result: Result) -> str:
    """The tables in Markdown."""
    return "\n\n".join(_markdown(table) for table in tables(result))


def _markdown(table: Table) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join([f"### {table.title}", "", *(f"| {' | '.join(line)} |" for line in lines)])


def _share(hits: int, trials: int) -> str:
    return f"{hits / trials:.1%}" if trials else "–"


def _interval(low: float, high: float, form: str = ".0%") -> str:
    return f"{low:{form}} to {high:{form}}"


def _untouched(parts: Sequence[Untouched]) -> Table:
    stocks = [one for one in parts if one.base != COINS]
    sides = [("spent, together", False), ("new, together", True)]
    sums = [(name, [one for one in stocks if (one.base in NEW) is new]) for name, new in sides]
    rows = [_false_alarms(one.base, [one]) for one in parts]
    return Table(
        "Untouched bars",
        [
            "history",
            "symbols",
            "symbol-years",
            "findings",
            "of these exact",
            "false",
            "severe",
            "false per 100 symbol-years",
            "95 %",
            "withdrawn",
        ],
        [*rows, *(_false_alarms(name, some) for name, some in sums if some)],
    )


def _beyond(parts: Sequence[Untouched]) -> Table:
    """Findings on untouched bars of what sees peers, beginnings and ends, or a second source."""
    kinds = (Kind.OUTLIER_RETURN, Kind.STALE_PRICE, Kind.LATE_LISTING, Kind.ENDED, Kind.DISAGREEMENT)
    rows = []
    for one in parts:
        counts = Counter(name.split()[0] for name in one.findings)
        low, high = (100 * bound / one.years for bound in poisson(len(one.false)))
        told = [*(str(counts[kind]) for kind in kinds), str(len(one.false)), _interval(low, high, ".2f")]
        rows.append([one.base, str(one.symbols), str(round(one.years)), *told])
    return Table(
        "Untouched bars beside peers and a second source",
        ["history", "symbols", "symbol-years", *(kind.value for kind in kinds), "false", "per 100 symbol-years, 95 %"],
        rows,
    )  # fmt: skip


def _false_alarms(name: str, parts: Sequence[Untouched]) -> list[str]:
    years, false = sum(one.years for one in parts), sum(len(one.false) for one in parts)
    low, high = (100 * bound / years for bound in poisson(false))
    kinds = Counter(kind.value for one in parts for kind in one.false)
    told = f" ({', '.join(f'{count} {kind}' for kind, count in kinds.most_common())})" if kinds else ""
    counts = [sum(one.symbols for one in parts), round(years), sum(len(one.findings) for one in parts)]
    counts += [sum(one.exact for one in parts)]
    rate = [f"{100 * false / years:.2f}", _interval(low, high, ".2f")]
    severe, withdrawn = sum(one.severe for one in parts), sum(len(one.withdrawn) for one in parts)
    return [name, *map(str, counts), f"{false}{told}", str(severe), *rate, str(withdrawn)]


def _cells(recalls: Sequence[Recall]) -> dict[tuple[str, str], list[Recall]]:
    cells: dict[tuple[str, str], list[Recall]] = {}
    for one in recalls:
        cells.setdefault((one.kind, one.magnitude), []).append(one)
    return cells


def _recalls(title: str, recalls: Sequence[Recall], *, below: bool) -> Table:
    rows = []
    for (kind, magnitude), parts in _cells(recalls).items():
        sides = [[one for one in parts if (one.base in NEW) is new] for new in (False, True)]
        if below and all(_found(side) >= AIM for side in sides):
            continue
        planted = sum(one.planted for one in parts)
        named, restored = (sum(getattr(one, name) for one in parts) for name in ("named", "restored"))
        rows.append([kind, magnitude, *_side(sides[0]), *_side(sides[1]), _share(named, planted),
                     _share(restored, planted)])  # fmt: skip
    sides_told = [f"{name} {what}".strip() for name in ("spent:", "new:")
                  for what in ("planted", "recall", "95 %", "attainable")]  # fmt: skip
    return Table(title, ["kind", "magnitude", *sides_told, "named", "restored"], rows)


def _by_kind(recalls: Sequence[Recall]) -> Table:
    """Each kind over all its magnitudes and vendors, and the magnitude that is found least."""
    kinds: dict[str, dict[str, list[Recall]]] = {}
    for (kind, magnitude), parts in _cells(recalls).items():
        kinds.setdefault(kind, {})[magnitude] = parts
    rows = []
    for kind, cells in kinds.items():
        parts = [one for some in cells.values() for one in some]
        planted, found, named, restored = (
            sum(getattr(one, name) for one in parts) for name in ("planted", "found", "named", "restored")
        )
        least = min(cells, key=lambda magnitude: _found(cells[magnitude]))
        rows.append([kind, str(len(cells)), str(planted), _share(found, planted), _interval(*wilson(found, planted)),
                     _share(named, planted), _share(restored, planted),
                     f"{least} ({_found(cells[least]):.0%})"])  # fmt: skip
    columns = ["kind", "magnitudes", "planted", "recall", "95 %", "named", "restored", "found least"]
    return Table("Every kind over its magnitudes", columns, rows)


def _found(parts: Sequence[Recall]) -> float:
    planted = sum(one.planted for one in parts)
    return sum(one.found for one in parts) / planted if planted else 1.0


def _side(parts: Sequence[Recall]) -> list[str]:
    planted, found = (sum(getattr(one, name) for one in parts) for name in ("planted", "found"))
    return [str(planted), _share(found, planted), _interval(*wilson(found, planted)), _attainable(parts)]


def _attainable(parts: Sequence[Recall]) -> str:
    bounds = [(one.attainable, one.planted) for one in parts if one.attainable is not None and one.planted]
    if not bounds:
        return "–"
    return f"{sum(share * planted for share, planted in bounds) / sum(planted for _, planted in bounds):.1%}"


def _precision(result: Result) -> Table:
    def of(name: str, kinds: Iterable[Kind]) -> list[str]:
        right, beside, wrong = (sum(one[kind] for kind in kinds) for one in
                                (result.right, result.beside, result.wrong))  # fmt: skip
        total = right + beside + wrong
        return [name, str(right), str(beside), str(wrong), _share(right, total), _interval(*wilson(right, total)),
                _share(right + beside, total)]  # fmt: skip

    kinds = [kind for kind in Kind if result.right[kind] + result.beside[kind] + result.wrong[kind]]
    return Table(
        "Findings by their own kind",
        ["kind of finding", "names the planted defect", "touches one of another kind", "wrong", "precision", "95 %",
         "at a planted defect"],
        [of(kind.value, [kind]) for kind in kinds] + [of("all", kinds)],
    )  # fmt: skip


def _yahoo(result: Result) -> list[Table]:
    if result.sound is None:
        return []
    rows = [
        [one.name, str(one.defects), _share(one.found, one.defects), _interval(*wilson(one.found, one.defects)),
         _share(one.named, one.defects), str(one.findings), _share(one.right, one.findings + one.on_sound),
         _interval(*wilson(one.right, one.findings + one.on_sound)), str(one.on_sound)]
        for one in result.yahoo
    ]  # fmt: skip
    sound = f"{result.sound.files} repaired and sound histories, {result.sound.bars:,} bars"
    return [Table(
        "Yahoo's own defects", ["witness", "defects", "recall", "95 %", "named", "findings", "precision", "95 %",
                                f"findings on {sound}"], rows,
    )]  # fmt: skip
