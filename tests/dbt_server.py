"""dbt for the tests: a process that has loaded it and parsed the project; every run is a fork of that process.

Loading dbt and parsing the project take longer than most builds, and the suite builds two dozen times. Belongs here:
starting dbt. Does not: what it builds. dbt's own command line is proven by the main job, which runs it as a user's
machine does.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from resources.warehouse.connection import dbt_environment
from tests.forks import Asked, ask, serve

PROJECT = Path(__file__).parents[1] / "dbt_project"
DATABASE = f"octopus_warehouse_{uuid.uuid4().hex[:10]}"
"""This worker's name for a database that dbt builds in: of one name the project is parsed once."""


def run_dbt(url: str, target: Path, *arguments: str) -> None:
    """Run a command of dbt on a database, its artefacts in ``target``; one that fails, fails with dbt's own words."""
    target.mkdir(parents=True, exist_ok=True)
    output = target / "output.txt"
    output.unlink(missing_ok=True)
    status = ask(
        "tests.dbt_server", arguments=arguments, places=_places(target), environment=dbt_environment(url),
        stdout=str(output), stderr=str(output),
    )  # fmt: skip
    assert status == 0, output.read_text()[-4000:]


def _places(target: Path) -> list[str]:
    project = str(PROJECT)
    return [
        "--no-use-colors", "--project-dir", project, "--profiles-dir", project,
        "--target-path", str(target), "--log-path", str(target / "logs"),
    ]  # fmt: skip


def _serve() -> None:
    os.environ["DBT_SEND_ANONYMOUS_USAGE_STATS"] = "false"
    from dbt.cli.main import dbtRunner

    # A manifest names the relations of its database.
    manifests: dict[tuple[str, ...], Any] = {}

    def parse(asked: Asked) -> None:
        os.environ.update(asked["environment"])
        database = tuple(asked["environment"].values())
        if database not in manifests:
            manifests[database] = dbtRunner().invoke(["parse", *asked["places"]]).result

    def build(asked: Asked) -> None:
        # Without a manifest the fork parses, too, and says why it cannot.
        manifest = manifests[tuple(asked["environment"].values())]
        done = dbtRunner(manifest).invoke([*asked["arguments"], *asked["places"]])
        print(done.exception or "", flush=True)
        os._exit(0 if done.success else 1)

    serve(build, before=parse)


if __name__ == "__main__":
    _serve()
