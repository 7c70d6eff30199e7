"""The asset keys: each is ``[schema, table]``, the table that the asset fills.

Belongs here: names of assets and groups. Does not: definitions.
"""

from dagster import AssetKey

from octopus.alternative_data.schema import ItemKind

INSTRUMENTS = AssetKey(["raw", "instruments"])
BARS = AssetKey(["raw", "bars"])
INTRADAY_BARS = AssetKey(["raw", "intraday_bars"])
CORPORATE_ACTIONS = AssetKey(["raw", "corporate_actions"])
ADJUSTED_CLOSES = AssetKey(["raw", "adjusted_closes"])
BAR_VERDICTS = AssetKey(["raw", "bar_verdicts"])
ACTION_VERDICTS = AssetKey(["raw", "action_verdicts"])

COMPARED = ("alpaca", "alphavantage", "coingecko", "files", "yahoo")
"""Sources of market data that can be ingested beside the traded one."""


def compared_bars(source: str) -> AssetKey:
    """The asset of a source that is only compared; its rows stand in the same tables under its name."""
    return AssetKey(["compared", source])


NEWS = AssetKey(["raw", "news"])
SOCIAL_POSTS = AssetKey(["raw", "social_posts"])


def texts_of(kind: ItemKind, source: str) -> AssetKey:
    """The asset of one source of texts; its rows stand in the kind's table under its name."""
    return AssetKey(["news" if kind == "news" else "posts", source])


SENTIMENT_SCORES = AssetKey(["raw", "sentiment_scores"])
TEXT_MARKS = AssetKey(["raw", "text_marks"])
TEXT_SOURCE_REPORTS = AssetKey(["ops", "text_source_reports"])

SESSIONS = AssetKey(["ops", "sessions"])
QUALITY_FINDINGS = AssetKey(["ops", "quality_findings"])

PRICES = AssetKey(["marts", "prices"])
UNIVERSE = AssetKey(["marts", "universe"])
DAILY_SENTIMENT = AssetKey(["marts", "daily_sentiment"])
MARTS = (PRICES, UNIVERSE, DAILY_SENTIMENT)
"""The dbt models that Python reads: everything downstream of the warehouse depends on them."""

FEATURES = AssetKey(["strategy", "features"])
SIGNALS = AssetKey(["strategy", "signals"])

TRAINING_SETS = AssetKey(["models", "training_sets"])
FOLD_MODELS = AssetKey(["models", "fold_models"])
WALK_FORWARD = AssetKey(["models", "walk_forward_folds"])
REVIEWS = AssetKey(["models", "reviews"])
CHAMPION_HISTORY = AssetKey(["models", "champion_history"])
PREDICTIONS = AssetKey(["models", "predictions"])
DRIFT = AssetKey(["models", "drift"])
SHADOW = AssetKey(["models", "shadow"])

BACKTEST_RUNS = AssetKey(["backtest", "runs"])
SWEEP = AssetKey(["backtest", "sweep"])
"""Fills backtest.trials, as every study does; a key of its own, for its partitions are chunks of sweeps."""

OPENING_POSITIONS = AssetKey(["portfolio", "opening_positions"])
TARGET_WEIGHTS = AssetKey(["portfolio", "target_weights"])
REBALANCE_PLAN = AssetKey(["portfolio", "rebalance_plan"])

LIMIT_REPORT = AssetKey(["risk", "limit_report"])
RISK_MEASURES = AssetKey(["risk", "measures"])
PRETRADE_REPORT = AssetKey(["compliance", "pretrade_report"])
SURVEILLANCE = AssetKey(["compliance", "surveillance"])
DAILY_REPORTS = AssetKey(["compliance", "daily_reports"])

ENTRIES = AssetKey(["execution", "entries"])
ORDER_INTENTS = AssetKey(["execution", "order_intents"])
ORDERS = AssetKey(["execution", "orders"])
FILLS = AssetKey(["execution", "fills"])
POSITIONS = AssetKey(["execution", "positions"])
RECONCILIATION = AssetKey(["execution", "reconciliation"])
ORDER_COSTS = AssetKey(["execution", "order_costs"])
TAX_LOTS = AssetKey(["execution", "tax_lots"])
REALISED_GAINS = AssetKey(["execution", "realised_gains"])
