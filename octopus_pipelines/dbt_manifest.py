"""dbt's manifest: made before the definitions are loaded, never while they are.

Belongs here: knowing whether the manifest is current, and making it. Does not: running models (assets/warehouse.py).
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from octopus.core.errors import OctopusError
from resources.settings import ROOT

PROJECT = ROOT / "dbt_project"
MANIFEST = PROJECT / "target" / "manifest.json"


class DbtProjectError(OctopusError):
    """The dbt project does not parse; the message carries dbt's own words."""


def is_current() -> bool:
    """The manifest exists and is newer than every file it is made from."""
    if not MANIFEST.exists():
        return False
    made = MANIFEST.stat().st_mtime
    return all(path.stat().st_mtime <= made for path in _sources())


def ensure(environment: Mapping[str, str] | None = None) -> None:
    """Make the manifest unless it is current; needs no database. Of several processes one makes it for all.

    Args:
        environment: of the database that dbt will build in: parsed for another one, the project is parsed again there.
    """
    if is_current():
        return
    MANIFEST.parent.mkdir(exist_ok=True)
    with (MANIFEST.parent / "parse.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not is_current():
            _parse(environment or {})


def _parse(environment: Mapping[str, str]) -> None:
    dbt = str(Path(sys.executable).parent / "dbt")
    command = [dbt, "parse", "--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)]
    variables = {**os.environ, **environment, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=variables, cwd=PROJECT)
    if result.returncode:
        raise DbtProjectError(f"the dbt project does not parse: {result.stdout.strip()[-800:]}; mend dbt_project/")


def _sources() -> list[Path]:
    folders = ("models", "macros", "tests", "seeds")
    files = [path for folder in folders for path in (PROJECT / folder).rglob("*") if path.is_file()]
    return [PROJECT / "dbt_project.yml", *files]
