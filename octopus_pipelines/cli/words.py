"""What a person says on the command line: a name, a reason.

Belongs here: making it fit to be stored. Does not: what becomes of it.
"""

from __future__ import annotations

import click

from octopus.core.text import storable


class Words(click.ParamType[str]):
    """Text for the records, whatever the terminal made of it (`octopus.core.text.storable`)."""

    name = "text"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return storable(str(value))
