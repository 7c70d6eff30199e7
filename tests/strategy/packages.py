"""Packages with strategies, as pip would leave them."""

from __future__ import annotations

from pathlib import Path

DOCUMENTED = Path(__file__).resolve().parents[2] / "docs" / "strategies.md"


def documented_strategy() -> str:
    """The file that docs/strategies.md shows."""
    return DOCUMENTED.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]


def install(folder: Path, module: str, source: str, points: str) -> None:
    """A module, and its metadata with entry points."""
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[octopus.strategies]\n{points}\n")


def install_documented(folder: Path) -> None:
    """The strategy that the document tells its reader to write, found as it says."""
    install(folder, "breakout", documented_strategy(), "breakout = breakout:STRATEGY")
