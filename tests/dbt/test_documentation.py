"""The documentation of the dbt project, as a person gets it: one page, made by one command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_one_command_writes_one_page_that_needs_no_server(database_url: str, tmp_path: Path) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OCTOPUS_", "DAGSTER", "MLFLOW", "DBT"))}
    urls = {f"OCTOPUS_{name}_URL": database_url for name in ("DATABASE", "DAGSTER", "MLFLOW")}
    result = subprocess.run(
        [str(Path(sys.executable).parent / "octopus"), "db", "docs"],
        env={**clean, **urls, "OCTOPUS_HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    page = Path(result.stdout.split(": ")[0])
    assert page == tmp_path / "dbt-docs" / "index.html"
    text = page.read_text()
    assert "MANIFEST.JSON INLINE DATA" not in text, "the manifest and the catalog are in the page itself"
    for words in ("bars_weekly", "A continuous aggregate over raw.bars cannot tell this", "known_from"):
        assert words in text
    # The catalog is read from the database: a raw table has its types.
    assert "double precision" in text
