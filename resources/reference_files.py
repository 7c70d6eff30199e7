"""Files of reference data of the user's own (config/compliance.yaml, section data).

Belongs here: reading them, and refusing a policy whose data nobody brings. Does not: their rows' form
(octopus/compliance/reference.py), described in docs/compliance.md.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from octopus.compliance.reference import (
    HALT_COLUMNS,
    LOCATE_COLUMNS,
    SHARES_COLUMNS,
    InvalidReferenceError,
    Reference,
    Row,
    Spelling,
    parse_halts,
    parse_locates,
    parse_shares,
)
from octopus.compliance.rules import CompliancePolicy
from octopus.core.errors import ConfigError, OctopusError
from resources.agreement import likely_meant, spelt_otherwise

_Parsed = TypeVar("_Parsed")


def require_sources(policy: CompliancePolicy, where: str) -> None:
    """Refuse a policy that judges by data which nobody brings.

    Raises:
        ConfigError: naming the rule, the datum and the remedy.
    """
    for rule, datum in policy.unsourced():
        raise ConfigError(
            where=where, field=f"data.{datum}", value=None,
            remedy=f"rule {rule.id} has mode {rule.mode} and needs it: name a CSV file (docs/compliance.md), or set "
            "its mode to off or broker",
        )  # fmt: skip


def read_reference(policy: CompliancePolicy, root: Path, symbols: Collection[str]) -> Reference:
    """The files that the policy names; a relative path counts from ``root``.

    Args:
        symbols: the universe's instruments, as it writes them. Other names may stand in the files: of what is not
            traded here, or no longer.

    Raises:
        ConfigError: a file is missing or has other columns. InvalidReferenceError: rows are wrong, each named.
    """
    data, spelling = policy.data, partial(spelt_otherwise, symbols=symbols)
    return Reference(
        halts=_read(data.halts, root, "halts", HALT_COLUMNS, spelling, parse_halts),
        locates=_read(data.locates, root, "locates", LOCATE_COLUMNS, spelling, parse_locates),
        shares=_read(data.shares_outstanding, root, "shares_outstanding", SHARES_COLUMNS, spelling, parse_shares),
    )


def doubtful_rows(policy: CompliancePolicy, root: Path, symbols: Collection[str]) -> tuple[str, ...]:
    """What is wrong with the files, and names in them that the universe does not have and that are much like one of
    its: one line for each."""
    try:
        read = read_reference(policy, root, symbols)
    except OctopusError as error:
        return tuple(str(error).splitlines())
    named = {
        "halts": {one.instrument for one in read.halts or ()},
        "locates": {one.instrument for one in read.locates or ()},
        "shares_outstanding": {one.instrument for one in read.shares or ()},
    }
    return tuple(
        f"data.{field} of compliance.yaml names {name}, which is no instrument of universe.yaml: is {near} meant? "
        f"Until then the row says nothing of {near}"
        for field, names in named.items()
        for name in sorted(names.difference(symbols))
        if (near := likely_meant(name, symbols))
    )


def _read(
    name: str | None,
    root: Path,
    field: str,
    columns: tuple[str, ...],
    spelling: Spelling,
    parse: Callable[[Sequence[Row], str, Spelling], tuple[_Parsed, ...]],
) -> tuple[_Parsed, ...] | None:
    if name is None:
        return None
    path = root / Path(name).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            where="compliance.yaml", field=f"data.{field}", value=str(path), remedy=f"cannot be read ({error})"
        ) from None
    reader = csv.DictReader(text.splitlines(), restkey="more", restval="")
    if tuple(reader.fieldnames or ()) != columns:
        raise ConfigError(
            where=str(path), field="columns", value=",".join(reader.fieldnames or ()),
            remedy=f"the first line must be {','.join(columns)}",
        )  # fmt: skip
    rows = list(reader)
    wide = [line for line, row in enumerate(rows, 2) if "more" in row]
    if wide:
        raise InvalidReferenceError(
            "\n".join(f"{path}:{line}: more values than columns: put a value with a comma in quotes" for line in wide)
        )
    return parse(rows, str(path), spelling)
