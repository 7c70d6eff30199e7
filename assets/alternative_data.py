"""M11 Alternative Data: news, social posts and their sentiment.

Belongs here: ingesting and scoring texts. Does not: aggregating scores by day (dbt) or trading on them
(octopus/strategy).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl

from assets import inputs, keys, partitions, reporting
from octopus.alternative_data.daily import daily_texts
from octopus.alternative_data.marks import CONTEXT, ITEM_KEY, READ_LANGUAGE, texts_of
from octopus.alternative_data.marks import text_marks as find_marks
from octopus.alternative_data.reports import REPORT_SCHEMA, report_picture, report_row, source_report
from octopus.alternative_data.schema import TEXT_TABLES, ItemKind
from octopus.alternative_data.scores import score_rows, texts_to_score
from octopus.alternative_data.stamps import decided_live, known_when_seen, missed_a_decision
from octopus.core.errors import OctopusError
from resources.research_factories import TextCatalogue
from resources.sentiment.base import SentimentModel
from resources.sentiment.language import LanguageMarker
from resources.settings import Settings
from resources.sources.base import TextItems
from resources.warehouse.store import Warehouse
from resources.warehouse.text_fetches import TextFetch, TextFetches

GROUP = "alternative_data"
OWNERS = ["team:alternative_data"]
ANSWERED = "every_source_answered"
SOURCE_ANSWERED = "source_answered"
WHOLE = "nothing_truncated"
Ingested = Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]
_WORDS: dict[ItemKind, str] = {"news": "news items", "post": "social posts"}


def build_source(kind: ItemKind, name: str) -> dg.AssetsDefinition:
    """The asset of one source of texts.

    When its vendor is down its own check fails, and nothing else: no decision waits for a text, and what was missed is
    asked for again until the source answers.
    """
    key, table = keys.texts_of(kind, name), TEXT_TABLES[kind]

    @dg.asset(
        key=key, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
        description=f"What {name} has of {_WORDS[kind]}, by instrument, stored in raw.{table}.",
        partitions_def=partitions.SESSIONS, backfill_policy=dg.BackfillPolicy.single_run(), pool=name,
        check_specs=[
            dg.AssetCheckSpec(SOURCE_ANSWERED, asset=key, description="The source answered."),
            dg.AssetCheckSpec(WHOLE, asset=key, description="It gave all that it has of the window."),
        ],
    )  # fmt: skip
    def texts(
        context: dg.AssetExecutionContext,
        settings: dg.ResourceParam[Settings],
        warehouse: dg.ResourceParam[Warehouse],
        text_catalogue: dg.ResourceParam[TextCatalogue],
    ) -> Ingested:
        diary, asked_at = TextFetches(warehouse), datetime.now(UTC)
        start, end = text_window(context, settings, diary, kind, name)
        found, problem = _ask(context, settings, text_catalogue, kind, name, start, end)
        metadata = _store(context, settings, warehouse, table, name, found)
        _, session = partitions.session_range(context)
        # What is not over yet when it is asked for has not been answered.
        diary.keep(
            TextFetch(
                kind, name, asked_at, session, start, min(end, asked_at), problem, len(found.items),
                context.run.run_id,
            )
        )  # fmt: skip
        yield dg.MaterializeResult(
            metadata={**metadata, "asked_from": start.isoformat(), "asked_to": end.isoformat(),
                      "problem": problem or "none"}
        )  # fmt: skip
        yield dg.AssetCheckResult(check_name=SOURCE_ANSWERED, passed=problem is None, description=problem)
        yield dg.AssetCheckResult(
            check_name=WHOLE, passed=not found.truncated, severity=dg.AssetCheckSeverity.WARN,
            metadata={"truncated": found.truncated},
            description=_cut_short(name, found.truncated),
        )  # fmt: skip

    return texts


def build_gathering(kind: ItemKind, names: Sequence[str]) -> dg.AssetsDefinition:
    """The table of one kind of texts, once each of its sources was asked: what the session has, and who is missing."""
    key = keys.NEWS if kind == "news" else keys.SOCIAL_POSTS

    @dg.asset(
        key=key, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
        description=f"{_WORDS[kind].capitalize()} by instrument, of all sources: each with the time it was published "
        "and the time it counts from; synthetic ones are marked.",
        deps=[keys.texts_of(kind, name) for name in names], partitions_def=partitions.SESSIONS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[dg.AssetCheckSpec(ANSWERED, asset=key, description="No configured source failed to answer.")],
    )  # fmt: skip
    def gathered(
        context: dg.AssetExecutionContext,
        settings: dg.ResourceParam[Settings],
        warehouse: dg.ResourceParam[Warehouse],
    ) -> Ingested:
        _, session = partitions.session_range(context)
        asked = TextFetches(warehouse).of_session(kind, session).filter(pl.col("source").is_in(list(names)))
        missing = asked.filter(pl.col("problem").is_not_null())
        told = "; ".join(missing["problem"])
        counted = _texts_of(warehouse, TEXT_TABLES[kind], settings, session)
        shown = asked.select("source", answered=pl.col("problem").is_null(), fetched="items").join(
            counted, on="source", how="full", coalesce=True
        )
        yield dg.MaterializeResult(
            metadata={
                "texts_of_session": int(counted["of_session"].sum()), "sources": ", ".join(names) or "none",
                "unanswered": ", ".join(missing["source"]) or "none",
                **({} if shown.is_empty() else {"by_source": reporting.table(shown.sort("source"))}),
            }
        )  # fmt: skip
        yield dg.AssetCheckResult(
            check_name=ANSWERED, passed=missing.is_empty(), severity=dg.AssetCheckSeverity.WARN,
            metadata={"unanswered": len(missing)}, description=(told and f"decided without {told}") or None,
        )  # fmt: skip

    return gathered


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
    for kind, table in TEXT_TABLES.items():
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
        for kind, table in TEXT_TABLES.items()
    }
    first = min((since for since in unmarked.values() if since is not None), default=None)
    if first is None:
        return dg.MaterializeResult(metadata={"texts_marked": 0})
    texts = texts_of(*(_current(warehouse, table, first - CONTEXT) for table in TEXT_TABLES.values()))
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
    holes = TextFetches(warehouse).holes(session)
    return dg.MaterializeResult(
        metadata={
            "sources": len(rows), **({"table": reporting.table(shown)} if rows else {}), "holes": len(holes),
            **({} if holes.is_empty() else {"unanswered": reporting.table(holes.sort("session", descending=True))}),
            **pictures,
        }
    )  # fmt: skip


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


def _texts_of(warehouse: Warehouse, table: str, settings: Settings, session: date) -> pl.DataFrame:
    """How many texts of ``raw.table`` belong to ``session``: columns source, of_session."""
    before = settings.sessions.previous(session)
    return warehouse.read(
        f"""
        select source, count(distinct (instrument, ts, item_id)) as of_session from raw.{table}
        where known_at > $1 and known_at <= $2 group by source
        """,  # noqa: S608  # the table's name is one of two constants
        [settings.sessions.decision_utc(before), settings.sessions.decision_utc(session)],
    )


def text_window(
    context: dg.AssetExecutionContext, settings: Settings, diary: TextFetches, kind: ItemKind, source: str
) -> tuple[datetime, datetime]:
    """Instants to ask for: up to the last decision, and from ``lookback_days`` before the first.

    A single session from where the source last answered, if that is longer ago; a recording whole, so that a first run
    has its history.
    """
    first, last = partitions.session_range(context)
    if settings.recorded:
        return datetime(1990, 1, 1, tzinfo=UTC), datetime(2023, 1, 1, tzinfo=UTC)
    start = settings.sessions.decision_utc(first) - timedelta(days=settings.alternative_data.lookback_days)
    end = settings.sessions.decision_utc(last)
    answered = diary.answered_to(kind, source, end) if first == last else None
    return min(start, answered or start), end


def _ask(
    context: dg.AssetExecutionContext,
    settings: Settings,
    catalogue: TextCatalogue,
    kind: ItemKind,
    name: str,
    start: datetime,
    end: datetime,
) -> tuple[TextItems, str | None]:
    """What the source gave, and why it gave nothing where it failed: whatever that is, the day goes on."""
    nothing = TextItems(pl.DataFrame(), [], "")
    try:
        return catalogue.source(kind, name).fetch(settings.universe.symbols, start, end), None
    except OctopusError as error:
        context.log.warning(str(error))
        return nothing, str(error)
    except Exception as error:  # a vendor's client may fail in ways that nobody foresaw; no decision waits for a text
        context.log.exception(f"{name} failed")
        return nothing, f"{name}: an unexpected {type(error).__name__}; the run's log says where, please report it"


def _cut_short(name: str, questions: int) -> str | None:
    """What to do about a source that did not give all it has; None where it did."""
    if not questions:
        return None
    return (
        f"{name} has more than it gave of {questions} of its streams, queries or spans: run more often, follow fewer "
        f"instruments, or take a larger plan and raise request_limits.{name}"
    )


def _store(
    context: dg.AssetExecutionContext,
    settings: Settings,
    warehouse: Warehouse,
    table: str,
    name: str,
    found: TextItems,
) -> dict[str, Any]:
    """Append what came; its counts as metadata. What missed a decision is known from now on."""
    seen, items = datetime.now(UTC), found.items
    if not items.is_empty():
        decisions = "select session, min(created_at) as decided_at from portfolio.decisions group by session"
        decided = decided_live(warehouse.read(decisions), settings.sessions)
        items = known_when_seen(items, missed_a_decision(items["known_at"], decided, settings.sessions), seen)
    report = warehouse.append(
        table, items, source=name, run_id=context.run.run_id, rejects=found.rejects,
        payload_hash=found.payload_hash or None, now=seen,
    )  # fmt: skip
    return {
        "rows_fetched": len(items), "rows_new": report.new, "rows_restated": report.restated,
        "rows_quarantined": report.quarantined, "about_no_instrument": found.unlinked,
        "rows_known_when_seen": _known_when_seen(warehouse, table, report.batch_id, items),
    }  # fmt: skip


def _known_when_seen(warehouse: Warehouse, table: str, batch: int | None, items: pl.DataFrame) -> int:
    """How many rows of a batch, made of ``items``, are known from when we had them."""
    if batch is None or items.is_empty():
        return 0
    found = warehouse.read(
        f"""
        select count(*) as late from raw.{table}
        where batch_id = $1 and known_at = ingested_at and ts between $2 and $3
        """,  # noqa: S608  # the table's name is one of two constants
        [batch, items["ts"].min(), items["ts"].max()],
    )
    return int(found["late"].item())


def build_assets(asked: Mapping[ItemKind, Sequence[str]]) -> list[dg.AssetsDefinition]:
    """The group's assets, with one for each source of texts that is asked."""
    sources = [build_source(kind, name) for kind, names in asked.items() for name in names]
    gathered = [build_gathering(kind, names) for kind, names in asked.items()]
    return [*sources, *gathered, sentiment_scores, text_marks, text_source_reports]
