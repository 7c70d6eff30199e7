"""`octopus`: the entry point and its error line.

Belongs here: the list of commands and how an error ends. Does not: the commands' bodies.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import NoReturn

import click
from dotenv import load_dotenv

from octopus.core.errors import OctopusError
from resources.settings import ROOT

DEBUG_VARIABLE = "OCTOPUS_DEBUG"
"""Set to 1, an error of the surroundings ends in its traceback."""

_DATABASE_ERRORS = {"psycopg.Error", "sqlalchemy.exc.DBAPIError", "adbc_driver_manager.Error"}
"""By name: `octopus halt` must not wait for their libraries."""


class _Commands(click.Group):
    """Loads a command's module when it is asked for: `octopus halt` must not wait for the research libraries."""

    _modules = {  # noqa: RUF012  # read only
        "run": "octopus_pipelines.cli.run",
        "up": "octopus_pipelines.cli.up",
        "status": "octopus_pipelines.cli.status",
        "revisions": "octopus_pipelines.cli.revisions",
        "backtest": "octopus_pipelines.cli.backtest",
        "sweep": "octopus_pipelines.cli.sweep",
        "halt": "octopus_pipelines.cli.trading",
        "resume": "octopus_pipelines.cli.trading",
        "alerts": "octopus_pipelines.cli.alerts",
        "watchdog": "octopus_pipelines.cli.watchdog",
        "release": "octopus_pipelines.cli.release",
        "orders": "octopus_pipelines.cli.orders",
        "breaks": "octopus_pipelines.cli.breaks",
        "adopt": "octopus_pipelines.cli.adopt",
        "lots": "octopus_pipelines.cli.lots",
        "limits": "octopus_pipelines.cli.limits",
        "audit": "octopus_pipelines.cli.audit",
        "doctor": "octopus_pipelines.cli.doctor",
        "quality": "octopus_pipelines.cli.quality",
        "db": "octopus_pipelines.cli.db",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._modules:
            return None
        import importlib

        command = getattr(importlib.import_module(self._modules[cmd_name]), cmd_name)
        return command if isinstance(command, click.Command) else None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="octopus")
def cli() -> None:
    """Octopus: from raw data to risk-checked, reconciled orders in one Dagster graph."""


def main() -> None:
    """Run the command line; an error that a user can act on is one clear line and exit status 1."""
    is_whole = _load_variables(ROOT / ".env")
    # The one beta feature that is used on purpose, and Dagster's note that ingestion may run a range in one run.
    warnings.filterwarnings("ignore", message=".*backfill_policy.*")
    warnings.filterwarnings("ignore", message=".*varying BackfillPolicies.*")
    try:
        cli(standalone_mode=False)
        if not is_whole:
            sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OctopusError as error:
        _refuse(str(error))
    except (KeyboardInterrupt, click.exceptions.Abort):
        # click makes the one of the other.
        click.echo("interrupted: run the same command again, what is done is not done twice", err=True)
        sys.exit(130)
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE) == "1" or not _is_of_the_surroundings(error):
            raise
        _refuse(f"{_said_of(error)}; see `octopus doctor` ({DEBUG_VARIABLE}=1 shows where it happened)")


def _refuse(line: str) -> NoReturn:
    click.secho(f"octopus: {line}", fg="red", err=True)
    sys.exit(1)


def _is_of_the_surroundings(error: Exception) -> bool:
    """Whether a disk, a file, a socket or the database failed, which is no fault of the program's."""
    classes = {f"{one.__module__}.{one.__qualname__}" for one in type(error).__mro__}
    return isinstance(error, OSError | UnicodeError) or not _DATABASE_ERRORS.isdisjoint(classes)


def _said_of(error: Exception) -> str:
    """What failed, in one line."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    lines = str(error).strip().splitlines()
    kind = type(error).__name__
    if isinstance(error, OSError) or not lines:
        return ": ".join([kind, *lines[:1]])
    what = "a text cannot be read" if isinstance(error, UnicodeError) else "the database refused"
    return f"{what}: {kind}: {lines[0]}"


def _load_variables(path: Path) -> bool:
    """Set what the file names and the shell does not; False where it cannot be read, which keeps no halt back."""
    try:
        load_dotenv(path)
    except (OSError, ValueError) as error:
        click.secho(
            f"octopus: {path} cannot be read, none of its variables is set: mend it ({error})", fg="red", err=True
        )
        if sys.argv[1:2] != ["halt"]:
            sys.exit(1)
        return False
    return True
