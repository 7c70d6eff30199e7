"""`python -m benchmarks.texts`: how well texts are read: tone, instruments, copies.

Belongs here: measuring on recorded texts, and printing. Does not: reading them, asserting.

Labelled texts are split in halves by the last digit of their hash; only errors of the even half were looked at while
rules were written. Tone is measured on the odd half of PhraseBank (Malo et al., 2014; CC BY-NC-SA 3.0), which nothing
was trained on. How the sample for linking was labelled, and what that is worth, is said beside it
(tests/alternative_data/data/README.md).
"""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from octopus.alternative_data.duplicates import SIMILARITY, mark_duplicates
from octopus.alternative_data.linking import Linker
from octopus.alternative_data.shingles import is_cut, plain, shingles
from octopus.alternative_data.texts import text_hash
from octopus.core.types import BoolArray, FloatArray
from resources.sentiment.base import SentimentModel
from resources.sentiment.factory import sentiment_model
from resources.sentiment.finbert import DEFAULT_MODEL

LABELS = Path(__file__).parent.parent / "tests" / "alternative_data" / "data"
NEUTRAL = 0.05
"""Scores up to here, either way, count as neutral: VADER's authors' threshold, kept for every model."""
CLASSES = ("negative", "neutral", "positive")
HALVES = ("tuned", "held out", "blind")


def data_folder() -> Path:
    """The recorded data: OCTOPUS_TEST_DATA, or ../shared/data beside the repository."""
    return Path(os.environ.get("OCTOPUS_TEST_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))


def recorded(name: str) -> pl.DataFrame:
    """One recorded table, every column as text."""
    with gzip.open(data_folder() / f"{name}.csv.gz") as file:
        return pl.read_csv(file.read(), infer_schema=False)


def is_held(hashes: Sequence[str]) -> BoolArray:
    """The half of labelled texts that nothing was tuned on."""
    return np.array([int(one[-1], 16) % 2 == 1 for one in hashes], dtype=bool)


# Tone ----------------------------------------------------------------------------------------------------------------


def tone_rows() -> Iterator[dict[str, Any]]:
    """Accuracy and macro-F1 of every model at hand on PhraseBank's held half, by agreement of its annotators."""
    bank = recorded("phrasebank").unique("text", maintain_order=True)
    bank = bank.filter(pl.Series(is_held([text_hash(text) for text in bank["text"]])))
    texts, label = bank["text"].to_list(), bank["label"].to_numpy()
    agreement = bank["agreement"].cast(pl.Int64).to_numpy()
    yield from _tone("always neutral", np.zeros(len(texts)), label, agreement, None)
    for model in models():
        model.score(texts[:1])
        started = time.perf_counter()
        scores = model.score(texts)
        yield from _tone(model.name, scores, label, agreement, len(texts) / (time.perf_counter() - started))


def models() -> list[SentimentModel]:
    """The light models, and FinBERT where its weights are on this disk."""
    found = [sentiment_model("finance"), sentiment_model("vader")]
    folder = finbert_folder()
    return [*found, sentiment_model("finbert", folder)] if folder else found


def finbert_folder() -> Path | None:
    """Where the weights of FinBERT are: OCTOPUS_FINBERT, or the hub's cache; None where they are not."""
    if os.environ.get("OCTOPUS_FINBERT"):
        return Path(os.environ["OCTOPUS_FINBERT"])
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    cached = try_to_load_from_cache(DEFAULT_MODEL, "config.json")
    return Path(cached).parent if isinstance(cached, str) else None


def _tone(
    model: str, scores: FloatArray, label: Any, agreement: Any, per_second: float | None
) -> Iterator[dict[str, Any]]:
    said = np.where(scores > NEUTRAL, "positive", np.where(scores < -NEUTRAL, "negative", "neutral"))
    for least in (50, 100):
        rows = agreement >= least
        yield {
            "group": "tone", "model": model, "agreement": least, "texts": int(rows.sum()),
            "accuracy": float((said[rows] == label[rows]).mean()), "macro_f1": macro_f1(label[rows], said[rows]),
            "texts_per_second": per_second,
        }  # fmt: skip


def macro_f1(label: Any, said: Any) -> float:
    """Mean over the three classes of F1; a class that is never right counts 0."""
    right = [((label == one) & (said == one)).sum() for one in CLASSES]
    either = [((label == one).sum() + (said == one).sum()) for one in CLASSES]
    return float(np.mean([2 * hits / total if total else 0.0 for hits, total in zip(right, either, strict=True)]))


# Linking -------------------------------------------------------------------------------------------------------------


def labelled_texts() -> pl.DataFrame:
    """The labelled sample with its texts: ``source``, ``text_hash``, ``drawn``, ``symbols`` (by spaces), ``text``."""
    rss = recorded("news_bbc_rss").select(text=pl.concat_str("title", pl.lit(". "), "description", ignore_nulls=True))
    texts = pl.concat([
        recorded("tweets_stocknet").select("text"), recorded("news_benzinga_a").select(text="headline"), rss,
    ]).unique(maintain_order=True)  # fmt: skip
    hashed = texts.with_columns(text_hash=pl.Series([text_hash(text) for text in texts["text"]]))
    labels = pl.read_csv(LABELS / "linking_labels.csv", infer_schema=False)
    return labels.join(hashed.unique("text_hash"), on="text_hash", how="left", maintain_order="left")


def company_names() -> dict[str, str]:
    """The instruments that the sample was labelled for."""
    names = pl.read_csv(LABELS / "linking_names.csv", infer_schema=False)
    return dict(zip(names["symbol"], names["name"], strict=True))


def linking_rows() -> Iterator[dict[str, Any]]:
    """Precision and recall of the instruments named, by half of the sample and source."""
    sample = labelled_texts()
    linker = Linker(company_names())
    linker.link("")
    started = time.perf_counter()
    found = linker.link_all(sample["text"].to_list())
    per_second = sample.height / (time.perf_counter() - started)
    held = pl.Series(is_held(sample["text_hash"].to_list()))
    half = pl.when(pl.col("drawn") == "blind").then(pl.lit("blind")).when(held).then(pl.lit("held out"))
    sample = sample.with_columns(found=pl.Series(found, dtype=pl.List(pl.String)), half=half.otherwise(pl.lit("tuned")))
    for part, source in [(part, source) for part in HALVES for source in ("all", "tweets", "benzinga", "bbc")]:
        rows = sample.filter((pl.col("half") == part) & ((pl.col("source") == source) | (pl.lit(source) == "all")))
        said = [set(one) for one in rows["found"]]
        meant = [set((one or "").split()) for one in rows["symbols"]]
        hits = sum(len(one & other) for one, other in zip(said, meant, strict=True))
        yield {
            "group": "linking", "half": part, "source": source, "texts": rows.height,
            "precision": hits / max(1, sum(map(len, said))), "recall": hits / max(1, sum(map(len, meant))),
            "texts_per_second": per_second,
        }  # fmt: skip


# Copies --------------------------------------------------------------------------------------------------------------

EDITS: Mapping[str, Callable[[str], str]] = {
    "retweeted": lambda text: f"RT @USER: {text}",
    "retweeted and cut": lambda text: f"RT @USER: {text}"[: max(60, int(len(text) * 0.85))].rsplit(" ", 1)[0] + " wor…",
    "another link": lambda text: f"{text} https://t.co/abcdefghij",
    "capitals": str.upper,
    "a word dropped": lambda text: _without_word(text),
    "a comment before": lambda text: f"This: {text}",
    "two words exchanged": lambda text: _exchanged(text),
}
"""Edits that leave the news the same."""
CHANGES: Mapping[str, Callable[[str], str]] = {
    "another number": lambda text: f"{text} 7.5%",
    "another ticker": lambda text: f"{text} $ZZZZ",
}
"""Edits that make other news of it."""


def _without_word(text: str) -> str:
    words = text.split()
    plainest = max((word for word in words if word.isalpha()), key=len, default=words[0])
    return " ".join(word for word in words if word is not plainest)


def _exchanged(text: str) -> str:
    words = text.split()
    middle = len(words) // 2
    words[middle - 1], words[middle] = words[middle], words[middle - 1]
    return " ".join(words)


def tweets() -> pl.DataFrame:
    """The recorded tweets as items."""
    return recorded("tweets_stocknet").select(
        source=pl.lit("twitter"), item_id="tweet_hash", instrument="symbol", text="text", repeats="rt_of_hash",
        known_at=pl.col("created_at").str.to_datetime(time_zone="UTC"),
    )  # fmt: skip


def copy_rows(planted: int = 1000) -> Iterator[dict[str, Any]]:
    """Speed on all tweets, recall on labelled retweets, and on planted edits of tweets that repeat no other."""
    items = tweets()
    started = time.perf_counter()
    marked = mark_duplicates(items)
    seconds = time.perf_counter() - started
    yield {"group": "copies", "work": "all tweets", "items": items.height, "per_second": items.height / seconds}
    peer = peer_per_second(items.sample(10_000, seed=7))
    if peer is not None:
        yield {"group": "copies", "work": "MinHashLSH of datasketch (peer)", "items": 10_000, "per_second": peer}
    once = marked.unique("item_id", maintain_order=True)
    original = once.select(repeats="item_id", origin="group", then="known_at")
    known = (
        once.filter(pl.col("repeats").fill_null("") != "")
        .join(original, on="repeats")
        .filter((pl.col("known_at") > pl.col("then")) & (pl.col("known_at") - pl.col("then") < timedelta(days=30)))
    )
    yield {
        "group": "copies", "work": "labelled retweets", "items": known.height,
        "share_found": float((known["group"] == known["origin"]).mean() or 0.0),  # type: ignore[arg-type]
    }  # fmt: skip
    single = once.filter(~pl.col("copy") & (pl.len().over("group") == 1) & (pl.col("text").str.len_chars() >= 60))
    base = single.filter((plain(pl.col("text")).str.len_chars() >= 50) & ~is_cut(pl.col("text"))).sample(
        planted, seed=7
    )
    for kind, edits in (("same news", EDITS), ("other news", CHANGES)):
        for name, edit in edits.items():
            yield {"group": "copies", "work": f"{kind}: {name}", "items": planted, "share_found": _share(base, edit)}


def _share(base: pl.DataFrame, edit: Callable[[str], str]) -> float:
    """Share of edited texts that are put in the group of their original."""
    items = base.select("source", "item_id", "known_at", "text")
    edited = items.with_columns(
        item_id=pl.lit("edited-") + pl.col("item_id"), known_at=pl.col("known_at") + timedelta(minutes=5),
        text=pl.Series([edit(text) for text in base["text"]]),
    )  # fmt: skip
    marked = mark_duplicates(pl.concat([items, edited]))
    groups = dict(zip(marked["item_id"], marked["group"], strict=True))
    return float(np.mean([groups[f"edited-{one}"] == groups[one] for one in base["item_id"]]))


def peer_per_second(items: pl.DataFrame) -> float | None:
    """Items that datasketch signs, stores and looks up in a second, on the same shingles; None where it is absent."""
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        return None
    sets = shingles(items.select(plain(pl.col("text"))).to_series())
    started = time.perf_counter()
    index = MinHashLSH(threshold=SIMILARITY, num_perm=80)
    for row, (low, high) in enumerate(zip(sets.bounds[:-1], sets.bounds[1:], strict=True)):
        sketch = MinHash(num_perm=80)
        sketch.update_batch([value.tobytes() for value in sets.values[low:high]])
        index.query(sketch)
        index.insert(row, sketch)
    return items.height / (time.perf_counter() - started)


def run() -> list[dict[str, Any]]:
    """Every figure."""
    return [*tone_rows(), *linking_rows(), *copy_rows()]


def main() -> None:
    """Measure and print."""
    console = Console(width=120)
    rows = run()
    for group in ("tone", "linking", "copies"):
        columns = list(dict.fromkeys(name for row in rows if row["group"] == group for name in row if name != "group"))
        table = Table(*columns, title=group)
        for row in rows:
            if row["group"] == group:
                table.add_row(*(_cell(row.get(name)) for name in columns))
        console.print(table)
    if finbert_folder() is None:
        console.print(
            "FinBERT is not measured: its weights are not on this disk (`make nlp`, and OCTOPUS_FINBERT with their "
            "folder)"
        )


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value > 1 else f"{value:.3f}"
    return "" if value is None else str(value)


if __name__ == "__main__":
    main()
