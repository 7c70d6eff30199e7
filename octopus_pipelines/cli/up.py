"""`octopus up`: the database, Dagster and MLflow, until Ctrl-C.

Belongs here: which services run and what the user is told. Does not: processes (resources/runtime/services.py).
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

import click

from octopus_pipelines.cli.house import open_house
from resources.runtime import dagster_home
from resources.runtime.services import LOOPBACK, Service, Services, free_port, python_program, sole_owner
from resources.settings import Settings, home_of
from resources.warehouse.connection import safe_address, sqlalchemy_url


@click.command()
@click.option("--dagster-port", default=3000, show_default=True, help="The next free port is taken if this one is not.")
@click.option("--mlflow-port", default=5000, show_default=True, help="Likewise.")
@click.option("--execute", is_flag=True, help="Start with the sensor on that executes approved batches.")
def up(dagster_port: int, mlflow_port: int, execute: bool) -> None:
    """Serve Dagster (webserver and daemon) and MLflow on the loopback address until Ctrl-C."""
    signal.signal(signal.SIGTERM, _interrupt)
    # Python leaves SIGINT ignored where a shell has started it in the background.
    signal.signal(signal.SIGINT, _interrupt)
    with sole_owner(home_of(os.environ)):
        _serve(dagster_port, mlflow_port, execute=execute)
    click.echo("stopped; `octopus up` starts it again where it was")


def _serve(dagster_port: int, mlflow_port: int, *, execute: bool) -> None:
    """Start everything, and end it with Ctrl-C or with the first service that ends."""
    click.echo("starting the database ...")
    current = open_house()
    executes = execute or current.trading.execution_sensor
    switch = {
        dagster_home.EXECUTION_SENSOR: "on" if executes else "off",
        dagster_home.ALERT_SENSORS: "on",
        dagster_home.INGESTION_SENSOR: "on",
    }
    services = Services(current.home, dagster_home.environment(current) | switch)
    family = list(_family(current, free_port(dagster_port), free_port(mlflow_port)))
    click.echo("starting Dagster and MLflow ...")
    try:
        services.start(family)
        for service in family:
            if service.url:
                click.secho(f"  {service.name:<18} {service.url}", fg="green")
        click.echo(f"  {'database':<18} {safe_address(current.database_url)}  (octopus db psql)")
        state = "on: approved batches are executed by themselves" if executes else "off, unless switched on there"
        click.echo("The daemon runs schedules and sensors; switch them on and off under Automation in Dagster.")
        click.echo(f"The execution sensor starts {state}.")
        click.echo("Ctrl-C stops everything.")
        sys.stdout.flush()
        services.watch()
    except KeyboardInterrupt:
        click.echo("\nstopping ...")
    finally:
        services.stop()
        if current.embedded is not None:
            current.embedded.stop()


def _family(current: Settings, dagster_port: int, mlflow_port: int) -> tuple[Service, ...]:
    workspace = str(current.root / "workspace.yaml")
    return (
        Service(
            "Dagster",
            [python_program("dagster-webserver"), "-h", LOOPBACK, "-p", str(dagster_port), "-w", workspace],
            f"http://{LOOPBACK}:{dagster_port}",
        ),
        Service("Dagster daemon", [python_program("dagster-daemon"), "run", "-w", workspace]),
        Service(
            "MLflow",
            [
                python_program("mlflow"), "server", "--host", LOOPBACK, "--port", str(mlflow_port), "--workers", "1",
                "--default-artifact-root", (current.home / "mlflow" / "artifacts").as_uri(), "--no-serve-artifacts",
            ],
            f"http://{LOOPBACK}:{mlflow_port}",
            # Not an option of the command: everybody on the machine could read the password in the list of processes.
            {"MLFLOW_BACKEND_STORE_URI": sqlalchemy_url(current.mlflow_url)},
        ),
    )  # fmt: skip


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM, as a service manager sends it, ends like Ctrl-C."""
    raise KeyboardInterrupt
