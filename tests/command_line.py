"""`octopus` for the tests, as a process of its own: a fork of one that has loaded it.

Belongs here: starting a command with a clean environment. Does not: what is asked of it. That the installed script
starts is proven by the main job, which runs it as a user does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.forks import Asked, ask, serve

_OURS = ("OCTOPUS_", "ALPACA_", "DAGSTER", "MLFLOW", "DBT", "PG")


def octopus(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a command of a user prints and ends with who set no variable but ``environment``'s."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    with tempfile.TemporaryDirectory(prefix="octopus-said-") as folder:
        out, err = Path(folder) / "stdout", Path(folder) / "stderr"
        status = ask(
            "tests.command_line", arguments=arguments, environment={**clean, "OCTOPUS_HOME": str(home), **environment},
            stdout=str(out), stderr=str(err),
        )  # fmt: skip
        return subprocess.CompletedProcess(["octopus", *arguments], status, out.read_text(), err.read_text())


def _serve() -> None:
    import alembic.command  # noqa: F401  # of what commands import late, what most of them do

    from octopus_pipelines.cli.main import cli, main

    context = cli.make_context("octopus", [], resilient_parsing=True)
    for name in cli.list_commands(context):
        cli.get_command(context, name)

    def command(asked: Asked) -> None:
        os.environ.clear()
        os.environ.update(asked["environment"])
        sys.argv = ["octopus", *asked["arguments"]]
        main()

    serve(command)


if __name__ == "__main__":
    _serve()
