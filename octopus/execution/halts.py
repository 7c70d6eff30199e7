"""What is said of halts that stand together.

Belongs here: how their reasons become one. Does not: keeping a halt (resources/halt_file.py,
resources/warehouse/order_store.py).
"""

from __future__ import annotations

_AND = "; and "


def reasons_together(*reasons: str) -> str:
    """All that ``reasons`` say, in their order and each thing once; each may be several, joined here before.

    A halt does not settle what another one was for, so nothing that was said is lost by a later one.
    """
    said = (part for reason in reasons for part in reason.split(_AND) if part)
    return _AND.join(dict.fromkeys(said))
