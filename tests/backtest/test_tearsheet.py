"""The tear sheet: a readable picture of modest size, and a page that needs nothing else."""

from __future__ import annotations

import base64
import re
import struct
from datetime import date

from conftest import random_panel

from octopus.backtest.config import BacktestConfig
from octopus.backtest.metrics import measure
from octopus.backtest.simulator import run_backtest, run_benchmarks
from octopus.backtest.tearsheet import headline, standard_warnings, tearsheet_html, tearsheet_png
from octopus.decision import DecisionConfig


def test_the_tear_sheet_of_a_backtest() -> None:
    panel = random_panel(5, 700)
    config = BacktestConfig(start=date(2016, 1, 4))
    result = run_backtest(panel, config, DecisionConfig())
    benchmark = run_benchmarks(panel, config, DecisionConfig())["equal_weight"]
    metrics = measure(result, benchmark)
    png = tearsheet_png(result, benchmark, metrics, "A & B <test>")
    assert png.startswith(b"\x89PNG")
    assert struct.unpack(">II", png[16:24]) == (1200, 900)
    assert len(png) < 300_000
    assert png == tearsheet_png(result, benchmark, metrics, "A & B <test>")
    warnings = standard_warnings(result, metrics, survivors_only=True)
    assert any("Survivorship" in text for text in warnings)
    page = tearsheet_html(png, metrics, "A & B <test>", assumptions={"Start": config.start}, warnings=warnings)
    assert "A &amp; B &lt;test&gt;" in page
    assert "<test>" not in page
    assert "Survivorship" in page
    assert "2016-01-04" in page
    (embedded,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert base64.b64decode(embedded) == png
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert f"{metrics.strategy.cagr:.1%}" in headline(metrics)
