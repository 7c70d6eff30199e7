"""The tear sheet: a readable picture of modest size, and a page that needs nothing else and reads well in a browser."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import struct
import subprocess
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import random_panel

from octopus.backtest.config import BacktestConfig
from octopus.backtest.metrics import Metrics, measure
from octopus.backtest.simulator import BacktestResult, run_backtest, run_benchmarks
from octopus.backtest.tearsheet import fills_told, headline, standard_warnings, tearsheet_html, tearsheet_png
from octopus.decision import DecisionConfig

TITLE = "A & B <test>"
START = date(2016, 1, 4)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
LOOK = """<script>document.documentElement.dataset.seen = JSON.stringify({
    wider: document.documentElement.scrollWidth - window.innerWidth,
    pictures: [...document.images].map(i => i.naturalWidth),
    text: document.body.innerText,
})</script>"""


class Sheet(NamedTuple):
    result: BacktestResult
    benchmark: BacktestResult
    metrics: Metrics
    png: bytes


@pytest.fixture(scope="module")
def sheet() -> Sheet:
    panel = random_panel(5, 700)
    config = BacktestConfig(start=START)
    result = run_backtest(panel, config, DecisionConfig())
    benchmark = run_benchmarks(panel, config, DecisionConfig())["equal_weight"]
    metrics = measure(result, benchmark)
    return Sheet(result, benchmark, metrics, tearsheet_png(result, benchmark, metrics, TITLE))


def page_of(sheet: Sheet, warnings: list[str]) -> str:
    return tearsheet_html(sheet.png, sheet.metrics, TITLE, assumptions={"Start": START}, warnings=warnings)


def test_the_tear_sheet_of_a_backtest(sheet: Sheet) -> None:
    assert sheet.png.startswith(b"\x89PNG")
    assert struct.unpack(">II", sheet.png[16:24]) == (1100, 850)
    assert len(sheet.png) < 300_000
    assert sheet.png == tearsheet_png(sheet.result, sheet.benchmark, sheet.metrics, TITLE)
    warnings = standard_warnings(sheet.result, sheet.metrics, survivors_only=True)
    assert any("Survivorship" in text for text in warnings)
    page = page_of(sheet, warnings)
    assert "A &amp; B &lt;test&gt;" in page
    assert "<test>" not in page
    assert "Survivorship" in page
    assert "2016-01-04" in page
    (embedded,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert base64.b64decode(embedded) == sheet.png
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert f"{sheet.metrics.strategy.cagr:.1%}" in headline(sheet.metrics)


def test_the_tear_sheet_says_what_is_not_simulated(sheet: Sheet) -> None:
    plain = standard_warnings(sheet.result, sheet.metrics, survivors_only=False)
    assert not any("worked" in text or "volume-weighted" in text for text in plain)
    typical = replace(sheet.result, execution="typical")
    told = standard_warnings(typical, sheet.metrics, survivors_only=False)
    assert any("mean of the session's high, low and close" in text for text in told)
    worked = replace(sheet.result, execution="vwap", schedule="twap", fill_prices={"vwap": 60, "typical": 40})
    told = standard_warnings(worked, sheet.metrics, survivors_only=False)
    assert any("40 of 100 fills are not at the session's volume-weighted average price" in text for text in told)
    assert any("worked by twap" in text for text in told)
    assert "60 at the volume-weighted average, 40 at the mean of high, low and close" in fills_told(worked)


@pytest.mark.parametrize("width", [1200, 800])
def test_a_browser_shows_the_page_whole(sheet: Sheet, tmp_path: Path, width: int) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser at hand: install one of {', '.join(BROWSERS)}")
    page = tmp_path / "sheet.html"
    page.write_text(page_of(sheet, ["one < two"]).replace("</body>", f"{LOOK}</body>"), encoding="utf-8")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},900", "--dump-dom"]
    command = [browser, *flags, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    found = re.search(r'data-seen="([^"]+)"', shown)
    assert found, shown[:400]
    seen = json.loads(html.unescape(found[1]))
    assert seen["wider"] <= 0
    assert seen["pictures"] == [1100]
    assert TITLE in seen["text"]
    assert "one < two" in seen["text"]
