"""The plan that a user has at a vendor, from the settings to what is asked of the vendor."""

from __future__ import annotations

from contextlib import suppress
from datetime import date
from pathlib import Path

import pytest
import yaml
from conftest import Vendor

from octopus.core.errors import OctopusError
from octopus.core.sessions import Sessions
from resources.research_factories import market_data_of
from resources.settings import ROOT, Settings, load_settings
from resources.sources.base import whole

START, END = date(2020, 12, 21), date(2020, 12, 24)


def settings_with(tmp_path: Path, plans: dict[str, object]) -> Settings:
    folder = tmp_path / "config"
    folder.mkdir()
    for name in ("strategies", "risk", "compliance"):
        (folder / f"{name}.yaml").write_text((ROOT / "config" / f"{name}.yaml").read_text())
    universe = yaml.safe_load((ROOT / "config" / "universe.yaml").read_text()) | {"plans": plans}
    universe["request_limits"] = {"coingecko": {}, "alpaca": {}}
    (folder / "universe.yaml").write_text(yaml.safe_dump(universe))
    return load_settings({"OCTOPUS_CONFIG": str(folder), "OCTOPUS_HOME": str(tmp_path / "home")})


def asked(vendor: Vendor, monkeypatch: pytest.MonkeyPatch, settings: Settings, source: str, symbol: str) -> list[str]:
    """Paths that the configured source asks for, whatever becomes of the answers."""
    monkeypatch.setenv(f"OCTOPUS_{source.upper()}_URL", vendor.url)
    for name in ("COINGECKO_API_KEY", "ALPACA_API_KEY", "ALPACA_API_SECRET"):
        monkeypatch.setenv(name, "a-key")
    vendor.answer("", {"error": "nothing here"}, status=404)
    with suppress(OctopusError):
        whole(market_data_of(source, settings).fetch([symbol], START, END, Sessions("XNYS")))
    return [path for _, path, _ in vendor.asked]


@pytest.mark.parametrize(("plans", "feed"), [({}, "iex"), ({"alpaca": {"feed": "sip"}}, "sip")])
def test_alpaca_is_asked_for_the_feed_of_the_plan(vendor, monkeypatch, tmp_path, plans, feed):
    paths = asked(vendor, monkeypatch, settings_with(tmp_path, plans), "alpaca", "MSFT")
    assert paths
    assert all(f"feed={feed}" in path for path in paths if "/bars" in path)


def test_a_paid_plan_reaches_back_and_a_coin_has_the_id_that_was_given(vendor, monkeypatch, tmp_path):
    chosen = {"coingecko": {"plan": "pro", "quote": "eur", "coins": {"PEPE": "pepe"}}}
    paths = asked(vendor, monkeypatch, settings_with(tmp_path, chosen), "coingecko", "PEPE")
    assert any("pepe" in path and "eur" in path for path in paths)


@pytest.mark.parametrize(
    ("plans", "why"),
    [
        ({"alpaca": {"feed": "everything"}}, "plans.alpaca.feed"),
        ({"coingecko": {"plan": "free"}}, "plans.coingecko.plan"),
        ({"coingecko": {"quote": "US Dollar"}}, "plans.coingecko.quote"),
        ({"yahoo": {}}, "plans.yahoo"),
    ],
)
def test_a_plan_that_no_vendor_has_is_refused(tmp_path, plans, why):
    with pytest.raises(OctopusError, match=why):
        settings_with(tmp_path, plans)
