"""Counts of long proofs, one line of a file for each chunk of seeds that held, so that a run can stop and be resumed.

``OCTOPUS_PROOF_COUNTS`` names the file. A chunk that stands in it, of the same code, is not run again. Run as a script
with the file's path, this adds the chunks of the code at hand up.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest

CHUNK = 100
ROOT = Path(__file__).parents[2]
PROVED = (
    "octopus/core", "octopus/execution", "resources/execution_engine.py", "resources/bookkeeping.py",
    "resources/warehouse/order_store.py", "resources/warehouse/account_books.py",
    "resources/warehouse/order_records.py", "resources/warehouse/audit_log.py", "resources/brokers/base.py",
    "resources/brokers/answers.py",
)  # fmt: skip
"""What a count is a count of: the order path's code, and of the brokers' that of the adapter."""
ADAPTERS = {"paper": ("paper", "paper_ledger"), "scheduled": ("paper", "paper_ledger"), "alpaca": ("alpaca",),
    "ib": ("ib", "flex"), "coinbase": ("coinbase",), "schwab": ("schwab",)}  # fmt: skip

Record = Callable[[str, object], None]


def chunks(seeds: int) -> list[range]:
    return [range(first, min(first + CHUNK, seeds)) for first in range(0, seeds, CHUNK)]


@cache
def code(proof: str) -> str:
    """Fingerprint of the code that is proved: comments and docstrings prove nothing, and change it as little."""
    names = [
        *PROVED,
        *_functions(),
        *(f"resources/brokers/{name}.py" for name in ADAPTERS.get(proof.removeprefix("bracket-"), ())),
    ]
    paths = [ROOT / name for name in names]
    files = sorted(file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py")))
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(ROOT)}\0{_bare(file.read_text())}".encode())
    return digest.hexdigest()[:12]


def _functions() -> list[str]:
    """Migrations that make functions of the order path: those that the engine calls, or called once."""
    files = (ROOT / "resources/warehouse/migrations/versions").glob("*.py")
    made = re.compile(r"function (execution|audit)\.")
    return [str(file.relative_to(ROOT)) for file in files if made.search(file.read_text())]


def _bare(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [line for line in node.body if not _is_text(line)]
    return ast.dump(tree)


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def counted(proof: str, seeds: range, run: Callable[[], Mapping[str, int]], record: Record) -> None:
    """Run the chunk unless its counts are known, and write them down."""
    file = os.environ.get("OCTOPUS_PROOF_COUNTS")
    if file and [proof, seeds.start, seeds.stop] in [[one["proof"], *one["seeds"]] for one in lines(Path(file))]:
        pytest.skip(f"{proof}, seeds {seeds.start} to {seeds.stop - 1}: held before, see {file}")
    counts = dict(run())
    record("proof", {proof: counts})
    if file:
        line = {"proof": proof, "seeds": [seeds.start, seeds.stop], "code": code(proof), "counts": counts}
        with Path(file).open("a") as out:
            out.write(json.dumps(line) + "\n")


def lines(file: Path) -> list[dict[str, object]]:
    """The file's chunks, of the code at hand."""
    told = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    return [one for one in told if one["code"] == code(one["proof"])]


def main(file: Path) -> None:
    """Print the sum of each proof's chunks."""
    tables: dict[str, Counter[str]] = {}
    for one in lines(file):
        tables.setdefault(str(one["proof"]), Counter()).update(one["counts"])  # type: ignore[call-overload]
    for proof, counts in tables.items():
        print(f"{proof} (code {code(proof)})")
        for name, count in counts.items():
            print(f"{count:>9,}  {name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
