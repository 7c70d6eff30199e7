"""M4 Strategy: features and signals of a session.

Belongs here: storing what the decision function computes on its way. Does not: computing it (octopus/strategy).
"""

from collections.abc import Iterator

import dagster as dg
import numpy as np
import polars as pl

from assets import inputs, keys, partitions, reporting
from octopus.strategy.probe import look_ahead, probed_rows, strategies_that_look_ahead
from resources.settings import Settings
from resources.warehouse.store import Warehouse

GROUP = "strategy"
OWNERS = ["team:strategy"]
NO_LOOK_AHEAD = "no_look_ahead"


@dg.asset(
    key=keys.FEATURES, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, deps=list(keys.MARTS),
    partitions_def=partitions.SESSIONS,
    check_specs=[
        dg.AssetCheckSpec(
            NO_LOOK_AHEAD, asset=keys.FEATURES, blocking=True,
            description="No feature changes when the sessions after it are cut off, or replaced by noise.",
        )
    ],
)  # fmt: skip
def features(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], warehouse: dg.ResourceParam[Warehouse]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Every feature of every member of the universe, as known at the session's decision."""
    session = partitions.session_of(context)
    panel = inputs.panel(settings, warehouse, session)
    cube = inputs.prepared(panel, settings.decision).features
    row = cube.values[-1]
    frame = pl.DataFrame(
        {
            "instrument": np.repeat(cube.symbols, len(cube.names)),
            "feature": np.tile(cube.names, len(cube.symbols)),
            "value": row.ravel(),
        }
    ).with_columns(pl.lit(session).alias("session"), pl.col("value").fill_nan(None))
    changed = warehouse.replace("strategy.features", {"session": session}, frame)
    missing = float(np.isnan(row).mean())
    shown = frame.pivot(on="feature", index="instrument", values="value").sort("instrument")
    yield dg.MaterializeResult(
        metadata={
            "rows": len(frame), "features": len(cube.names), "changed": changed, "share_missing": missing,
            "preview": reporting.table(shown.select(shown.columns[:8])),
        }
    )  # fmt: skip
    rows = probed_rows(panel)
    found = sorted({name for row in rows for name in look_ahead(panel, cube, row)})
    yield dg.AssetCheckResult(
        check_name=NO_LOOK_AHEAD, asset_key=keys.FEATURES, passed=not found,
        metadata={
            "features_that_look_ahead": ", ".join(found) or "none", "features": len(cube.names),
            "sessions_probed": ", ".join(str(panel.sessions[row]) for row in rows),
            "remedy": "mend them in octopus/strategy/features.py" if found else "nothing to do",
        },
    )  # fmt: skip


@dg.asset(
    key=keys.SIGNALS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, deps=[keys.FEATURES],
    partitions_def=partitions.SESSIONS,
    check_specs=[
        dg.AssetCheckSpec(
            NO_LOOK_AHEAD, asset=keys.SIGNALS, blocking=True,
            description="No strategy's scores change when the sessions after them are cut off, or replaced by noise.",
        )
    ],
)  # fmt: skip
def signals(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], warehouse: dg.ResourceParam[Warehouse]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """The rule-based signals by instrument, in cross-sectional standard deviations; a missing one abstains."""
    session = partitions.session_of(context)
    panel, config = inputs.panel(settings, warehouse, session), settings.decision
    prepared = inputs.prepared(panel, config)
    frame = pl.concat(
        [
            pl.DataFrame(
                {"instrument": prepared.symbols, "signal": [name] * len(prepared.symbols), "value": values[-1]}
            )
            for name, values in sorted(prepared.signals.items())
        ]
    ).with_columns(pl.lit(session).alias("session"), pl.col("value").fill_nan(None))
    changed = warehouse.replace("strategy.signals", {"session": session}, frame)
    silent = [name for name, values in prepared.signals.items() if np.isnan(values[-1]).all()]
    yield dg.MaterializeResult(
        metadata={
            "rows": len(frame), "changed": changed, "abstaining": ", ".join(sorted(silent)) or "none",
            "weights": dg.MetadataValue.json(prepared.weights_at(-1, config.strategy)),
            "table": reporting.table(frame.pivot(on="signal", index="instrument", values="value").sort("instrument")),
        }
    )  # fmt: skip
    rows = probed_rows(panel)
    found = strategies_that_look_ahead(panel, config.strategy, prepared.signals, rows)
    yield dg.AssetCheckResult(
        check_name=NO_LOOK_AHEAD, asset_key=keys.SIGNALS, passed=not found,
        metadata={
            "strategies_that_look_ahead": ", ".join(found) or "none", "strategies": ", ".join(sorted(prepared.signals)),
            "sessions_probed": ", ".join(str(panel.sessions[row]) for row in rows),
            "remedy": "let row t of their scores use rows up to t alone" if found else "nothing to do",
        },
    )  # fmt: skip


ASSETS = (features, signals)
