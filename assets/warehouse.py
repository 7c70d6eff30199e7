"""M2 Data Warehouse: the calendar, the dbt models and what is suspicious about the data.

Belongs here: running dbt once for all models, and the findings. Does not: SQL (dbt_project/) and detectors
(octopus/warehouse).
"""

import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtCliResource, DbtProject, dbt_assets
from dagster_shared.record import replace

from assets import keys, partitions, reporting
from assets.audits import DayAudit
from octopus.core.errors import OctopusError
from octopus.core.ids import fingerprint
from octopus.core.sessions import FIRST_SESSION, LAST_DAY, Sessions, calendar_of
from octopus.warehouse import suspects
from octopus.warehouse.pictures import AROUND_SESSIONS, close_ups, findings_picture, to_show
from octopus.warehouse.quality import Severity, by_urgency
from octopus.warehouse.verdicts import policy_verdicts, severe_cases
from resources.settings import ROOT, Settings
from resources.warehouse import builds, ingested
from resources.warehouse import verdicts as verdict_store
from resources.warehouse.connection import dbt_environment
from resources.warehouse.store import Warehouse

GROUP = "warehouse"
OWNERS = ["team:warehouse"]
PROJECT = ROOT / "dbt_project"
MANIFEST = PROJECT / "target" / "manifest.json"


class ManifestMissingError(OctopusError):
    """dbt's manifest is made before the definitions are loaded, never while they are."""


@dg.asset(
    key=keys.SESSIONS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, deps=[keys.INSTRUMENTS]
)  # fmt: skip
def sessions(
    settings: dg.ResourceParam[Settings], warehouse: dg.ResourceParam[Warehouse]
) -> dg.MaterializeResult[None]:
    """Sessions with opening, closing and decision instants, from the calendar library, for SQL.

    Those of the universe's clock, and of every exchange that an instrument names; one without a calendar keeps the
    clock's.
    """
    clock = settings.sessions
    named = {row["exchange"] for row in warehouse.rows("select distinct exchange from raw.instruments")}
    calendars = {name: calendar_of(name, clock) for name in sorted({clock.exchange} | named)}
    rows = pl.concat([session_rows(calendar, name) for name, calendar in calendars.items()])
    added = warehouse.insert_new("ops.sessions", rows)
    return dg.MaterializeResult(metadata={"rows": len(rows), "rows_new": added, "exchanges": ", ".join(calendars)})


def session_rows(calendar: Sessions, exchange: str | None = None) -> pl.DataFrame:
    """Rows of ops.sessions for the whole known calendar, under the name that instruments give it."""
    days = calendar.between(date.fromisoformat(FIRST_SESSION), date.fromisoformat(LAST_DAY))
    return pl.DataFrame(
        {
            "exchange": [exchange or calendar.exchange] * len(days),
            "session": days,
            "open_utc": calendar.opens_utc(days).tz_localize(None).to_numpy(),
            "close_utc": calendar.closes_utc(days).tz_localize(None).to_numpy(),
            "decision_utc": calendar.decisions_utc(days).tz_localize(None).to_numpy(),
        }
    ).with_columns(pl.col("open_utc", "close_utc", "decision_utc").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))


class _Translator(DagsterDbtTranslator):
    """Keys are [schema, table], everything belongs to the warehouse's team, source tests are checks.

    A source's failed test ends dbt's own build of what is made of it, and with the build all that waits for it. As a
    blocking check it would hold back the calendar, too, which the build itself waits for: Dagster would cut the build
    into two, each with dbt's start and a list of everything to build.
    """

    def __init__(self) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_source_tests_as_checks=True))

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetCheckSpec | None:
        check = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        sources = {self.get_asset_key(source) for source in manifest["sources"].values()}
        return replace(check, blocking=False) if check is not None and check.asset_key in sources else check

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        return dg.AssetKey([dbt_resource_props["schema"], dbt_resource_props["name"]])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        return GROUP if dbt_resource_props["resource_type"] == "model" else None

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str] | None:
        return OWNERS if dbt_resource_props["resource_type"] == "model" else None


WITHIN_THE_DAY = "tag:intraday"


def build_dbt_assets(name: str, selected: str, excluded: str = "") -> dg.AssetsDefinition:
    """dbt models as assets, from the manifest that was made beforehand.

    Args:
        selected, excluded: which, in dbt's words: what one run builds whole it builds without a list of everything.
    """
    if not MANIFEST.exists():
        raise ManifestMissingError(
            f"{MANIFEST} is missing; `octopus doctor` and `octopus run` make it, or run `dbt parse`"
        )

    @dbt_assets(
        manifest=MANIFEST, select=selected, exclude=f"resource_type:unit_test {excluded}".strip(),
        dagster_dbt_translator=_Translator(), name=name,
    )  # fmt: skip
    def dbt_models(
        context: dg.AssetExecutionContext,
        dbt: DbtCliResource,
        settings: dg.ResourceParam[Settings],
        warehouse: dg.ResourceParam[Warehouse],
    ) -> Iterator[Any]:
        """Staging, intermediate and marts in one dbt invocation; data tests appear as checks.

        The tests of an ordinary day read the sessions that it changed; with a month's first session, everything.
        """
        asked = sorted(map(str, (*context.selected_asset_keys, *context.selected_asset_check_keys)))
        checks = builds.next_checks(warehouse, builds.project_fingerprint(PROJECT), fingerprint(*asked))
        context.log.info(f"data tests read {f'sessions since {checks.since}' if checks.since else 'everything'}")
        os.environ.update(dbt_environment(settings.database_url), OCTOPUS_CHECKED_SINCE=checks.variable)
        # A folder of the house, because dbt keeps there what it parsed: for this database, from run to run.
        folder = settings.home / "dbt"
        invocation = dbt.cli(["build", "--exclude-resource-type", "unit_test"], context=context, target_path=folder)
        yield from invocation.stream()
        builds.passed(warehouse, checks)

    return dbt_models


@dg.multi_asset(
    name="judge_rows",
    specs=[
        dg.AssetSpec(
            keys.BAR_VERDICTS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
            deps=[keys.BARS, keys.CORPORATE_ACTIONS, keys.ADJUSTED_CLOSES],
            description="Bars under a severe finding: kept out of the marts, repaired or used, as decided.",
        ),
        dg.AssetSpec(
            keys.ACTION_VERDICTS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
            deps=[keys.BARS, keys.CORPORATE_ACTIONS, keys.ADJUSTED_CLOSES],
            description="Splits and dividends under a severe finding, likewise.",
        ),
    ],
    partitions_def=partitions.SESSIONS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)  # fmt: skip
def verdicts(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    warehouse: dg.ResourceParam[Warehouse],
) -> Iterator[dg.MaterializeResult[None]]:
    """Find what is severely wrong with raw bars and actions before the marts are built, and let the policy decide."""
    _, session = partitions.session_range(context)
    source = settings.universe.market_data
    counts, kept_out = (0, 0), pl.DataFrame()
    with warehouse.held() as connected:
        stored = verdict_store.last_batch(connected)
        audit = DayAudit(settings, connected, session)
        if audit.is_raw:
            looked = audit.look()
            cases = severe_cases(looked.findings, source, audit.calendars)
            decided = policy_verdicts(
                [(case, settings.quality.decision(case.kind)) for case in cases],
                looked.bars, looked.actions, audit.calendars,
            )  # fmt: skip
            counts = verdict_store.store(connected, decided, source, context.run.run_id)
            kept_out = decided.bars.select("instrument", "session", "close", "decision", "finding_id")
        verdict_store.judged(connected, source, stored)
    for key, count in zip((keys.BAR_VERDICTS, keys.ACTION_VERDICTS), counts, strict=True):
        metadata: dict[str, Any] = {"rows_decided": count, "policy": settings.quality.severe}
        if key == keys.BAR_VERDICTS and not kept_out.is_empty():
            metadata["bars"] = reporting.table(kept_out.tail(50))
        yield dg.MaterializeResult(asset_key=key, metadata=metadata)


@dg.asset(
    key=keys.QUALITY_FINDINGS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
    deps=list(keys.MARTS), partitions_def=partitions.SESSIONS, backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[
        dg.AssetCheckSpec("no_severe_finding", asset=keys.QUALITY_FINDINGS, description="Nothing severe in the data."),
        dg.AssetCheckSpec("no_warning", asset=keys.QUALITY_FINDINGS, description="Nothing that distorts results."),
    ],
)  # fmt: skip
def quality_findings(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    warehouse: dg.ResourceParam[Warehouse],
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """What is suspicious about the data, with its remedy and, where the evidence gives one, a proposed repair.

    Of an index of total return: rounding, survivorship, gaps, stale prices, outliers. Of raw prices also defects of
    units, splits, dividends and single bars, and where a compared source disagrees.
    """
    _, session = partitions.session_range(context)
    source = settings.universe.market_data
    audit = DayAudit(settings, warehouse, session)
    found, names = audit.rows()
    changed = False
    for label, rows in found.items():
        stamped = rows.with_columns(ingested_at=pl.lit(datetime.now(UTC)))
        changed |= warehouse.replace("ops.quality_findings", {"source": label}, stamped, keep=("ingested_at",))
    rows = pl.concat(found.values())
    by_severity = {severity: int((rows["severity"] == severity.value).sum()) for severity in Severity}
    # A day costs a day: all weeks are counted, and compared with the calendar, where all of history is read.
    ingested.refresh(settings.database_url, whole=audit.whole is not None)
    gaps = {"weeks_with_gaps": len(ingested.weekly_gaps(warehouse, source))} if audit.whole else {}
    yield dg.MaterializeResult(
        metadata={
            "findings": len(rows),
            "changed": changed,
            "read_whole": audit.whole or f"{len(names or ())} of {len(audit.everyone)} instruments",
            **gaps,
            **{severity.value: count for severity, count in by_severity.items()},
            "picture": reporting.picture(findings_picture(rows), "data-quality findings"),
            **_close_ups(audit, rows),
            "table": _listed(rows),
        }
    )
    for name, severity, level in (
        ("no_severe_finding", Severity.SEVERE, dg.AssetCheckSeverity.ERROR),
        ("no_warning", Severity.WARN, dg.AssetCheckSeverity.WARN),
    ):
        of_level = rows.filter(pl.col("severity") == severity.value)
        told: dict[str, Any] = {"findings": _listed(of_level), "what_to_do": NEXT[severity]} if len(of_level) else {}
        yield dg.AssetCheckResult(
            check_name=name, passed=of_level.is_empty(), severity=level, metadata={"count": len(of_level), **told}
        )
    audit.done()


NEXT = {
    Severity.SEVERE: "The policy decided about the rows under these (asset raw/bar_verdicts); `octopus quality decide "
    "FINDING repair|keep|hold|take_back --reason '...'` decides otherwise, and the marts follow with the next run.",
    Severity.WARN: "These rows are used as they are; `octopus quality decide FINDING hold|repair --reason '...'` keeps "
    "them out or applies what is proposed.",
}


def _listed(rows: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """Findings as a person decides on them: by which name, the evidence in words, and whether a repair waits."""
    return reporting.table(
        by_urgency(rows).select(
            pl.col("finding_id").str.slice(0, 12).alias("finding"),
            *("severity", "kind", "instrument", "session_from", "session_to", "message", "remedy"),
            repair=pl.when(pl.col("evidence").str.contains('"repair":'))
            .then(pl.lit("proposed"))
            .otherwise(pl.lit("–")),
        )
    )


def _close_ups(audit: DayAudit, rows: pl.DataFrame) -> dict[str, Any]:
    """The picture of what to look at first, read for the few instruments in it and some others to compare with."""
    first = to_show(rows.filter(pl.col("source") == audit.source))
    if first.is_empty():
        return {}
    begun = first["session_from"].to_numpy().min().astype(object)
    names = suspects.beside(frozenset(first["instrument"]), audit.everyone)
    since = audit.sessions.previous(begun, 2 * AROUND_SESSIONS)
    bars = verdict_store.vendor_bars(audit.warehouse, audit.source, audit.as_of, names, since)
    actions = verdict_store.vendor_actions(audit.warehouse, audit.source, audit.as_of, names, since)
    drawn = close_ups(first, bars, actions.select("instrument", "session", "kind", "value"))
    return {} if drawn is None else {"look_at_first": reporting.picture(drawn, "findings with their neighbours")}


def dbt_resource() -> DbtCliResource:
    """dbt's command line on our project; the profile reads the addresses from the environment."""
    project = str(PROJECT)
    program = str(Path(sys.executable).parent / "dbt")
    return DbtCliResource(project_dir=project, profiles_dir=project, dbt_executable=program)


def build_assets() -> list[dg.AssetsDefinition]:
    """The group's assets; the dbt models come from the manifest."""
    daily = build_dbt_assets("dbt_models", "fqn:*", WITHIN_THE_DAY)
    return [sessions, verdicts, daily, build_dbt_assets("intraday_models", WITHIN_THE_DAY), quality_findings]
