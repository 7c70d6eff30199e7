"""dbt for the tests: one process that has loaded it and parsed the project; every run is a fork of that process.

Loading dbt and parsing the project take longer than most builds, and the suite builds two dozen times. A fork starts
with both done and, as a process of its own, leaves nothing to the next run. Belongs here: starting dbt. Does not: what
it builds. dbt's own command line is proven by the main job, which runs it as a user's machine does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from functools import cache
from pathlib import Path
from typing import Any

from resources.warehouse.connection import dbt_environment

PROJECT = Path(__file__).parents[1] / "dbt_project"
DATABASE = f"octopus_warehouse_{uuid.uuid4().hex[:10]}"
"""This worker's name for a database that dbt builds in: of one name the project is parsed once."""


def run_dbt(url: str, target: Path, *arguments: str) -> None:
    """Run a command of dbt on a database, its artefacts in ``target``; one that fails, fails with dbt's own words."""
    target.mkdir(parents=True, exist_ok=True)
    output = target / "output.txt"
    asked = {
        "arguments": arguments, "places": _places(target), "environment": dbt_environment(url), "output": str(output),
    }  # fmt: skip
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(asked) + "\n")
    server.stdin.flush()
    assert server.stdout.readline() == "0\n", output.read_text()[-4000:] if output.exists() else "dbt's process ended"


@cache
def _server() -> subprocess.Popen[str]:
    """One for the worker; it ends with the pipe that it reads from."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.dbt_server"], cwd=PROJECT.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, env={**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
    )  # fmt: skip


def _places(target: Path) -> list[str]:
    project = str(PROJECT)
    return [
        "--no-use-colors", "--project-dir", project, "--profiles-dir", project,
        "--target-path", str(target), "--log-path", str(target / "logs"),
    ]  # fmt: skip


def _serve() -> None:
    """Answer each request, a line, with the exit code of a fork that ran it."""
    from dbt.cli.main import dbtRunner

    answers = os.fdopen(os.dup(1), "w")
    # A manifest names the relations of its database.
    manifests: dict[tuple[str, ...], Any] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        os.environ.update(asked["environment"])
        _redirect(asked["output"])
        database = tuple(asked["environment"].values())
        if database not in manifests:
            manifests[database] = dbtRunner().invoke(["parse", *asked["places"]]).result
        sys.stdout.flush()
        process = os.fork()
        if not process:
            # Without a manifest the fork parses, too, and says why it cannot.
            done = dbtRunner(manifests[database]).invoke([*asked["arguments"], *asked["places"]])
            print(done.exception or "", flush=True)
            os._exit(0 if done.success else 1)
        answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])}\n")
        answers.flush()


def _redirect(path: str) -> None:
    """What this process and its forks print goes to a file from now on."""
    with Path(path).open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)


if __name__ == "__main__":
    _serve()
