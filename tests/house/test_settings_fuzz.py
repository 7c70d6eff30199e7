"""Any text at all in config/*.yaml gives settings that say what was written, or one clear error; never anything else.

The shipped files are taken apart and put together wrongly: values of other types and sizes, keys gone, doubled or
unknown, dates that are none, YAML's own traps, bytes changed or cut off. What is still read is compared with the text
by other code than the reader's, and the gates judge a batch by it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from octopus.compliance import gate as compliance_gate
from octopus.compliance.checks import ComplianceContext
from octopus.compliance.rules import CompliancePolicy
from octopus.core.errors import ConfigError
from octopus.core.orders import AccountSnapshot, Batch, PlannedOrder, Side, TradingState
from octopus.risk import gate as risk_gate
from octopus.risk.limits import RiskLimits
from octopus.risk.market import LastPrice, MarketContext, ReturnHistory
from octopus.risk.signatures import Authority
from resources.settings import ROOT, StrategiesFile, UniverseFile, load_settings, read_section

MODELS: dict[str, type[BaseModel]] = {
    "universe.yaml": UniverseFile, "strategies.yaml": StrategiesFile, "risk.yaml": RiskLimits,
    "compliance.yaml": CompliancePolicy,
}  # fmt: skip
TEXTS = {name: (ROOT / "config" / name).read_text(encoding="utf-8") for name in MODELS}
TREES = {name: yaml.safe_load(text) for name, text in TEXTS.items()}

JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.integers(-(10**30), 10**30),
    st.sampled_from([float("nan"), float("inf"), float("-inf"), -0.0, 1e-320, 1e308, -1e308, 0.5, 1e17]),
    st.floats(width=32), st.text(max_size=6), st.dates(), st.datetimes(timezones=st.just(UTC)), st.binary(max_size=4),
    st.sampled_from([[], {}, [[]], {"a": {"b": [1]}}, "24/7", "yes", "off", "null", "2024-02-31", "1e400", "NaN"]),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=3), st.floats(), max_size=2),
)  # fmt: skip
SNIPPETS = (
    "2024-02-31", "2024-13-01", "0000-00-00", "99999-01-01", "0x1F", "010", "1:30", "190:20:30", ".nan", "-.inf",
    "1e999", "yes", "no", "on", "off", "~", "''", "*nobody", "&a [*a]", "&a {<<: *a}", "!!set {a}", "!!binary x",
    "!!int one", "!!float x", "!!bool maybe", "!!timestamp now", "!!omap [a: 1]", "!!pairs [a: 1]",
    "!!python/name:os.system", "!mine 1", "<<: 3", "=", "[", "{", "}", "|", ">-", "? [1]", "@x", "`", "%",
    "- - -", "---", "...", "\t1", "1_000", "9" * 4400, "0x" + "F" * 4400, "[" * 450, "{a: " * 450,
    "\N{ZERO WIDTH SPACE}5", "５", "\x00", "-5", "1e30", "1e-30",
)  # fmt: skip


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and element below the top."""
    below = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, part in below:
        yield (*path, key)
        yield from places(part, (*path, key))


def break_one(draw: st.DrawFn, holder: Any, last: Any) -> None:
    """One wrong thing about the value at ``last``."""
    do = draw(st.sampled_from(["junk", "junk", "junk", "gone", "scaled", "unknown", "wrapped", "text", "doubled"]))
    old = holder[last]
    if do == "gone":
        del holder[last]
    elif do == "unknown" and isinstance(holder, dict):
        holder[draw(JUNK.filter(lambda key: not isinstance(key, list | dict)))] = old
    elif do == "scaled" and isinstance(old, int | float):
        holder[last] = old * draw(st.sampled_from([-1, 0, 1000, 1e30, 1e-30, 1e300]))
    elif do == "wrapped":
        holder[last] = draw(st.sampled_from([[old], {"value": old}, {str(old)[:9]: old}, [old, old]]))
    elif do == "text":
        holder[last] = str(old)
    elif do == "doubled" and isinstance(holder, list):
        holder.append(copy.deepcopy(old))
    else:
        holder[last] = copy.deepcopy(draw(JUNK))


@st.composite
def broken_trees(draw: st.DrawFn, name: str) -> bytes:
    """The file with one to three of its values, keys or branches wrong."""
    tree = copy.deepcopy(TREES[name])
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(list(places(tree))))
        holder = tree
        for part in above:
            holder = holder[part]
        break_one(draw, holder, last)
        if not tree:
            break
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")


@st.composite
def broken_texts(draw: st.DrawFn, name: str) -> bytes:
    """The file with a line or some bytes of it wrong."""
    lines = TEXTS[name].splitlines(keepends=True)
    values = [row for row, line in enumerate(lines) if re.match(r"\s*[-\w .%]+:", line)]
    do = draw(st.sampled_from(["value", "value", "value", "twice", "indent", "gone", "bytes", "cut"]))
    row = draw(st.sampled_from(values))
    if do == "value":
        lines[row] = f"{lines[row].split(':', 1)[0]}: {draw(st.sampled_from(SNIPPETS))}\n"
    elif do == "twice":
        key, _, value = lines[row].partition(":")
        lines.insert(row + 1, f"{key}: {draw(st.sampled_from(['9', '0.99', 'off', value.strip()]))}\n")
    elif do == "indent":
        lines[row] = draw(st.sampled_from([" ", "    ", "\t"])) + lines[row]
    elif do == "gone":
        del lines[row]
    content = "".join(lines).encode()
    at = draw(st.integers(0, len(content)))
    if do == "bytes":
        content = content[:at] + draw(st.binary(min_size=1, max_size=6)) + content[at + draw(st.integers(0, 6)) :]
    return content[:at] if do == "cut" else content


def files() -> st.SearchStrategy[tuple[str, bytes]]:
    names = st.sampled_from(["risk.yaml", "risk.yaml", "compliance.yaml", "universe.yaml", "strategies.yaml"])
    return names.flatmap(lambda name: st.tuples(st.just(name), broken_trees(name) | broken_texts(name)))


def require_meant(model: Any, written: Any, path: str) -> None:
    """Each value of ``written`` is in ``model``, and no field that has no default was invented."""
    if isinstance(model, BaseModel):
        assert isinstance(written, dict), path
        for name, info in type(model).model_fields.items():
            assert name in written or not info.is_required(), f"{path}.{name} was never written"
        assert set(written) <= set(type(model).model_fields), path
        for name, value in written.items():
            require_meant(getattr(model, name), value, f"{path}.{name}")
    elif isinstance(model, dict):
        assert len(model) == len(written), path
    elif isinstance(model, tuple | list):
        # A single word may stand for a list of one.
        written = [written] if isinstance(written, str) else written
        assert len(model) == len(written), path
        for row, (one, value) in enumerate(zip(model, written, strict=True)):
            require_meant(one, value, f"{path}.{row}")
    elif isinstance(model, bool):
        assert str(written).lower() in ("true", "1", "1.0", "yes", "on", "y", "t") if model else True, path
    elif isinstance(model, int | float | Decimal):
        assert not isinstance(written, bool), f"{path}: a word became the number {model}"
        assert np.isfinite(float(model)), path
        assert float(model) == float(str(written).replace("_", "")), path
    elif isinstance(model, date):
        assert str(model) == str(written).strip()[:10], path


NOW = datetime(2022, 12, 28, 15, tzinfo=UTC)
SESSION = date(2022, 12, 27)
BATCH = Batch("b", "a", SESSION, NOW - timedelta(hours=1), NOW + timedelta(hours=6), (
    PlannedOrder("one", "AAA", Side.BUY, Decimal(10), Decimal(100)),
    PlannedOrder("two", "BBB", Side.SELL, Decimal(10), Decimal(50)),
))  # fmt: skip
SNAPSHOT = AccountSnapshot("a", NOW, Decimal(100_000), {"BBB": Decimal(40)}, {"AAA": Decimal(100), "BBB": Decimal(50)})
MARKET = MarketContext(
    {"AAA": LastPrice(Decimal(100), NOW), "BBB": LastPrice(Decimal(50), NOW)},
    ReturnHistory(
        np.datetime64(SESSION, "D") - np.arange(600)[::-1], ("AAA", "BBB"),
        np.random.default_rng(7).normal(0, 0.01, (600, 2)),
    ),
    "raw", Decimal(102_000), Decimal(102_000), dict.fromkeys(("AAA", "BBB"), Decimal(10**6)),
    {"AAA": "one", "BBB": "two"}, (),
)  # fmt: skip
CONTEXT = ComplianceContext(
    trade_session=NOW.date(), session_open=NOW - timedelta(minutes=30), session_close=NOW + timedelta(hours=6),
    short_allowed=False, recent_intents=(), price_basis="raw",
)  # fmt: skip


def require_an_answer(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    path.write_bytes(content)
    try:
        read = read_section(path, MODELS[name])
    except ConfigError as error:
        told = error
    else:
        require_use(read, name, content)
        return
    assert name in str(told)
    assert "\n" not in str(told)
    assert len(str(told)) < 1500
    assert told.field
    assert told.remedy


def require_use(read: BaseModel, name: str, content: bytes) -> None:
    """It says what was written, can be recorded, and the gates can judge by it."""
    require_meant(read, yaml.safe_load(content), name)
    read.model_dump(mode="json")
    if isinstance(read, RiskLimits):
        risk_gate.judge(BATCH, SNAPSHOT, MARKET, read, TradingState.ACTIVE, Authority(False, "not asked"), NOW)
    elif isinstance(read, CompliancePolicy):
        compliance_gate.judge(BATCH, SNAPSHOT, CONTEXT, read, NOW)


@pytest.mark.parametrize("examples", [100, pytest.param(6000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_any_text_is_read_as_written_or_refused_in_one_line(tmp_path: Path, examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(files())
    def fuzz(file: tuple[str, bytes]) -> None:
        require_an_answer(tmp_path, *file)

    fuzz()


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_limit_is_not_loosened_by_what_yaml_makes_of_it(tmp_path: Path, snippet: str) -> None:
    """Each of YAML's traps in place of one limit, and behind it as a second value."""
    for limit in ("drawdown_stop", "messages_window_seconds", "valid_until"):
        line = next(line for line in TEXTS["risk.yaml"].splitlines() if line.startswith(f"{limit}:"))
        instead = TEXTS["risk.yaml"].replace(line, f"{limit}: {snippet}")
        twice = TEXTS["risk.yaml"].replace(line, f"{line}\n{limit}: {snippet}")
        require_an_answer(tmp_path, "risk.yaml", instead.encode())
        (tmp_path / "risk.yaml").write_text(twice, encoding="utf-8")
        with pytest.raises(ConfigError):
            read_section(tmp_path / "risk.yaml", RiskLimits)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("drawdown_stop: 0.25", "drawdown_stop: yes", ["drawdown_stop", "write a number"]),
        ("drawdown_stop: 0.25", "drawdown_stop: 0.25\ndrawdown_stop: 0.9", ["drawdown_stop", "twice"]),
        ("valid_until: 2027-12-31", "valid_until: 86400", ["valid_until", "86400", "2024-01-31"]),
        ("valid_until: 2027-12-31", "valid_until: 2027-02-31", ["2027-02-31", "day is out of range"]),
        ("messages_max: 600", "messages_max: 10:00", ["10:00", "several numbers"]),
        ("messages_window_seconds: 60 ", "messages_window_seconds: 1e300 ", ["messages_window_seconds", "1e300"]),
        ("messages_max: 600", "messages_max: 1000000000000000001", ["1000000000000000001", "smaller number"]),
        ("messages_max: 600", "messages_max: 0x" + 400 * "F", ["0xFFFF", "smaller number"]),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    assert old in TEXTS["risk.yaml"]
    (tmp_path / "risk.yaml").write_text(TEXTS["risk.yaml"].replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_section(tmp_path / "risk.yaml", RiskLimits)
    for word in words:
        assert word in str(caught.value)


def test_a_home_of_nobody_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match="OCTOPUS_HOME"):
        load_settings({"OCTOPUS_HOME": "~nobody-of-that-name/octopus"})
