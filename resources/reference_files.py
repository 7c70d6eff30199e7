"""Files of reference data of the user's own (config/compliance.yaml, section data).

Belongs here: reading them, and refusing a policy whose data nobody brings. Does not: their rows' form
(octopus/compliance/reference.py), described in docs/compliance.md.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from octopus.compliance.reference import (
    HALT_COLUMNS,
    LOCATE_COLUMNS,
    SHARES_COLUMNS,
    InvalidReferenceError,
    Reference,
    Row,
    parse_halts,
    parse_locates,
    parse_shares,
)
from octopus.compliance.rules import CompliancePolicy
from octopus.core.errors import ConfigError

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


def read_reference(policy: CompliancePolicy, root: Path) -> Reference:
    """The files that the policy names; a relative path counts from ``root``.

    Raises:
        ConfigError: a file is missing or has other columns. InvalidReferenceError: rows are wrong, each named.
    """
    data = policy.data
    return Reference(
        halts=_read(data.halts, root, "halts", HALT_COLUMNS, parse_halts),
        locates=_read(data.locates, root, "locates", LOCATE_COLUMNS, parse_locates),
        shares=_read(data.shares_outstanding, root, "shares_outstanding", SHARES_COLUMNS, parse_shares),
    )


def _read(
    name: str | None,
    root: Path,
    field: str,
    columns: tuple[str, ...],
    parse: Callable[[Sequence[Row], str], tuple[_Parsed, ...]],
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
    return parse(rows, str(path))
