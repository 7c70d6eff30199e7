"""M11 Alternative Data: news, social posts and their sentiment.

Belongs here: ingesting and scoring texts. Does not: aggregating scores by day (dbt) or trading on them
(octopus/strategy).
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import dagster as dg
import polars as pl

from assets import inputs, keys, partitions, reporting
from octopus.alternative_data.daily import daily_texts
from octopus.alternative_data.marks import CONTEXT, ITEM_KEY, READ_LANGUAGE, texts_of
from octopus.alternative_data.marks import text_marks as find_marks
from octopus.alternative_data.reports import REPORT_SCHEMA, report_picture, report_row, source_report
from octopus.alternative_data.scores import score_rows, texts_to_score
from octopus.core.errors import OctopusError
from resources.research_factories import Feeds
from resources.sentiment.base import SentimentModel
from resources.sentiment.language import LanguageMarker
from resources.settings import Settings
from resources.sources.base import NewsSource, SocialSource
from resources.warehouse.store import Warehouse

GROUP = "alternative_data"
OWNERS = ["team:alternative_data"]
ANSWERED = "every_source_answered"
Ingested = Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]
_ITEM_KINDS: tuple[tuple[Literal["news", "post"], str], ...] = (("news", "news"), ("post", "social_posts"))


@dg.asset(
    key=keys.NEWS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
    partitions_def=partitions.SESSIONS, backfill_policy=dg.BackfillPolicy.single_run(), pool="news",
    check_specs=[dg.AssetCheckSpec(ANSWERED, asset=keys.NEWS, description="No configured source failed to answer.")],
)  # fmt: skip
def news(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    warehouse: dg.ResourceParam[Warehouse],
    news_sources: dg.ResourceParam[Feeds[NewsSource]],
) -> Ingested:
    """News items by instrument, each with the time it was published and the time it counts from."""
    start, end = text_window(context, settings)
    yield from _ingest(context, warehouse, settings, "news", news_sources, start, end)


@dg.asset(
    key=keys.SOCIAL_POSTS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
    partitions_def=partitions.SESSIONS, backfill_policy=dg.BackfillPolicy.single_run(), pool="social",
    check_specs=[
        dg.AssetCheckSpec(ANSWERED, asset=keys.SOCIAL_POSTS, description="No configured source failed to answer.")
    ],
)  # fmt: skip
def social_posts(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    warehouse: dg.ResourceParam[Warehouse],
    social_sources: dg.ResourceParam[Feeds[SocialSource]],
) -> Ingested:
    """Social posts by instrument; synthetic ones are marked."""
    start, end = text_window(context, settings)
    yield from _ingest(context, warehouse, settings, "social_posts", social_sources, start, end)


@dg.asset(
    key=keys.SENTIMENT_SCORES, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
    deps=[keys.NEWS, keys.SOCIAL_POSTS], partitions_def=partitions.SESSIONS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)  # fmt: skip
def sentiment_scores(
    context: dg.AssetExecutionContext,
    warehouse: dg.ResourceParam[Warehouse],
    sentiment_model: dg.ResourceParam[SentimentModel],
) -> dg.MaterializeResult[None]:
    """A score in [-1, 1] for each text, with the model that gave it; known no earlier than its text."""
    scored = _stored_scores(warehouse, sentiment_model.name)
    counts = {"texts_scored": 0, "rows_new": 0}
    for kind, table in _ITEM_KINDS:
        items = _current(warehouse, table)
        texts = texts_to_score(items, frozenset(scored))
        values = sentiment_model.score(list(texts.values())) if texts else ()
        scored |= {name: float(value) for name, value in zip(texts, values, strict=True)}
        rows = score_rows(items, scored, sentiment_model.name, kind)
        report = warehouse.append("sentiment_scores", rows, source=sentiment_model.name, run_id=context.run.run_id)
        counts["texts_scored"] += len(texts)
        counts["rows_new"] += report.new
    return dg.MaterializeResult(metadata={"model": sentiment_model.name, **counts})


@dg.asset(
    key=keys.TEXT_MARKS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
    deps=[keys.NEWS, keys.SOCIAL_POSTS], partitions_def=partitions.SESSIONS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)  # fmt: skip
def text_marks(warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult[None]:
    """Of each text once: whether it repeats an earlier one, comes in a burst, is new, and in which language it is."""
    unmarked = {
        table: warehouse.scalar(
            f"""
            select min(t.known_at) from raw.{table} t
            left join raw.text_marks m using (source, instrument, ts, item_id, text_hash)
            where m.item_kind is distinct from '{kind}'
            """  # noqa: S608  # kind and table are constants
        )
        for kind, table in _ITEM_KINDS
    }
    first = min((since for since in unmarked.values() if since is not None), default=None)
    if first is None:
        return dg.MaterializeResult(metadata={"texts_marked": 0})
    texts = texts_of(*(_current(warehouse, table, first - CONTEXT) for _, table in _ITEM_KINDS))
    marked = warehouse.read("select source, instrument, ts, item_kind, item_id, text_hash from raw.text_marks")
    wanted = texts.join(marked, on=list(ITEM_KEY), how="anti", maintain_order="left")
    distinct = wanted.unique("text_hash", maintain_order=True)
    languages = dict(zip(distinct["text_hash"], LanguageMarker().mark(distinct["text"].to_list()), strict=True))
    marks = find_marks(texts, wanted, languages)
    warehouse.insert_new("raw.text_marks", marks.with_columns(ingested_at=pl.lit(datetime.now(UTC))))
    return dg.MaterializeResult(
        metadata={
            "texts_marked": len(marks), "copies": int(marks["copy"].sum()), "in_bursts": int(marks["burst"].sum()),
            "other_languages": int((marks["language"] != READ_LANGUAGE).sum()),
            "mean_novelty": float(marks.select(pl.col("novelty").mean()).item() or 0.0),
        }
    )  # fmt: skip


@dg.asset(
    key=keys.TEXT_SOURCE_REPORTS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
    deps=[keys.SENTIMENT_SCORES, keys.TEXT_MARKS, *keys.MARTS], partitions_def=partitions.SESSIONS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)  # fmt: skip
def text_source_reports(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    warehouse: dg.ResourceParam[Warehouse],
    sentiment_model: dg.ResourceParam[SentimentModel],
) -> dg.MaterializeResult[None]:
    """What each source of texts is worth: coverage, latency, copies, and how well its tone ranks later returns.

    Texts that are synthetic or were chosen in hindsight count for coverage, and never for the correlation.
    """
    _, session = partitions.session_range(context)
    panel = inputs.panel(settings, warehouse, session)
    items = _scored_items(warehouse, sentiment_model.name, settings.sessions.decision_utc(session))
    rows: list[dict[str, object]] = []
    pictures: dict[str, dg.MarkdownMetadataValue] = {}
    for (kind, source), own in items.group_by("item_kind", "source", maintain_order=True):
        texts = daily_texts(own, panel.sessions, panel.symbols, settings.sessions)
        clean = daily_texts(own.filter("clean"), panel.sessions, panel.symbols, settings.sessions)
        report = source_report(
            str(source), own, replace(texts, sentiment=clean.sentiment), panel.member, panel.total_return
        )
        rows.append(report_row(report, str(kind), own, session))
        pictures[f"picture_{kind}_{source}".replace("-", "_")] = reporting.picture(
            report_picture(report), f"coverage and information of {source}"
        )
    table = pl.DataFrame(rows, schema=REPORT_SCHEMA)
    measured = table.with_columns(measured_at=pl.lit(datetime.now(UTC)))
    for (source, kind), one in measured.group_by("source", "item_kind", maintain_order=True):
        scope = {"source": source, "item_kind": kind}
        warehouse.replace("ops.text_source_reports", scope, one, keep=("measured_at",))
    shown = table.drop("ic", "session")
    return dg.MaterializeResult(
        metadata={"sources": len(rows), **({"table": reporting.table(shown)} if rows else {}), **pictures}
    )


def _scored_items(warehouse: Warehouse, model: str, as_of: datetime) -> pl.DataFrame:
    """Current scores of every text known by ``as_of``, with its weight as ``novelty``."""
    return warehouse.read(
        """
        select distinct on (s.source, s.instrument, s.ts, s.item_kind, s.item_id)
            s.source, s.item_kind, s.instrument, s.ts, s.known_at, s.known_at_imputed, s.ingested_at, s.score,
            coalesce(m.weight, 1) as novelty, coalesce(m.copy, false) as copy, coalesce(m.burst, false) as burst,
            not (s.synthetic or s.hindsight) as clean
        from raw.sentiment_scores s
        left join raw.text_marks m using (source, instrument, ts, item_kind, item_id, text_hash)
        where s.model = $1 and s.known_at <= $2
        order by s.source, s.instrument, s.ts, s.item_kind, s.item_id, s.batch_id desc
        """,
        [model, as_of],
    )


def _current(warehouse: Warehouse, table: str, since: datetime | None = None) -> pl.DataFrame:
    """The latest version of every item of ``raw.table`` that was known at ``since`` or later; None: of all."""
    return warehouse.read(
        f"""
        select distinct on (source, instrument, ts, item_id) * from raw.{table}
        where $1::timestamptz is null or known_at >= $1
        order by source, instrument, ts, item_id, batch_id desc
        """,  # noqa: S608  # the table's name is one of two constants
        [since],
    )


def _stored_scores(warehouse: Warehouse, model: str) -> dict[str, float]:
    """Scores of ``model`` by text hash: each distinct text is scored once."""
    frame = warehouse.read("select distinct text_hash, score from raw.sentiment_scores where model = $1", [model])
    return dict(zip(frame["text_hash"], frame["score"], strict=True))


def text_window(context: dg.AssetExecutionContext, settings: Settings) -> tuple[datetime, datetime]:
    """Instants to ask for: up to the last decision; a recording whole, so that a first run has its history."""
    first, last = partitions.session_range(context)
    end = settings.sessions.decision_utc(last)
    if settings.recorded:
        return datetime(1990, 1, 1, tzinfo=UTC), datetime(2023, 1, 1, tzinfo=UTC)
    return settings.sessions.decision_utc(first) - timedelta(days=settings.alternative_data.lookback_days), end


def _ingest(
    context: dg.AssetExecutionContext,
    warehouse: Warehouse,
    settings: Settings,
    table: str,
    feeds: Feeds[NewsSource] | Feeds[SocialSource],
    start: datetime,
    end: datetime,
) -> Ingested:
    """Fetch from every source that can be asked. One that fails fails the check and no other source: a decision does
    not wait for a news vendor. When none answers, the asset fails."""
    problems: list[str] = []
    truncated: list[str] = []
    rows = {"rows_fetched": 0, "rows_new": 0, "rows_restated": 0, "rows_quarantined": 0, "about_no_instrument": 0}
    for source in feeds.sources:
        try:
            found = source.fetch(settings.universe.symbols, start, end)
        except OctopusError as error:
            problems.append(str(error))
            continue
        report = warehouse.append(
            table, found.items, source=source.name, run_id=context.run.run_id,
            rejects=found.rejects, payload_hash=found.payload_hash,
        )  # fmt: skip
        rows["rows_fetched"] += len(found.items)
        rows["rows_new"] += report.new
        rows["rows_restated"] += report.restated
        rows["rows_quarantined"] += report.quarantined
        rows["about_no_instrument"] += found.unlinked
        if found.truncated:
            context.log.warning(f"{source.name} holds more than it gave; run again later, or widen the plan")
            truncated.append(source.name)
    if problems and len(problems) == len(feeds.sources):
        raise dg.Failure(description="; ".join(problems), metadata=rows, allow_retries=False)
    for reason in feeds.skipped:
        context.log.warning(reason)
    asked = ", ".join(source.name for source in feeds.sources) or "none"
    yield dg.MaterializeResult(
        metadata={
            **rows, "sources": asked, "truncated": ", ".join(truncated) or "none",
            "skipped": "; ".join(feeds.skipped) or "none",
        }
    )  # fmt: skip
    yield dg.AssetCheckResult(
        check_name=ANSWERED, passed=not problems, metadata={"failed": "; ".join(problems) or "none"},
        description="; ".join(problems) or None,
    )  # fmt: skip


ASSETS = (
    news,
    social_posts,
    sentiment_scores,
    text_marks,
    text_source_reports,
)
