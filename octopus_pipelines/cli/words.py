"""What a person says on the command line: a name, a reason.

Belongs here: the options that ask for them, and making them fit to be stored. Does not: what becomes of them.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from octopus.core.text import storable


class Words(click.ParamType[str]):
    """Text for the records, whatever the terminal made of it (`octopus.core.text.storable`)."""

    name = "text"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return storable(str(value))


Command = TypeVar("Command", bound=Callable[..., Any])


def login() -> str:
    """Who is at the terminal; a container's user may have no name."""
    try:
        return storable(getpass.getuser())
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def by_option(command: Command) -> Command:
    """``--by``: who says so."""
    say = click.option(
        "--by", type=Words(), default=login, show_default="your login", help="Your name, for the records."
    )
    return say(command)


def reason_option(default: str | None = None, told: str = "Goes into the audit log.") -> Callable[[Command], Command]:
    """``--reason``; without a default somebody must say why."""
    return click.option(
        "--reason", type=Words(), default=default, required=default is None, show_default=default is not None, help=told
    )
