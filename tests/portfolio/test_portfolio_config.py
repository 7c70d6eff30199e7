"""Settings of the portfolio that contradict themselves are refused with what to change."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from octopus.portfolio.config import PortfolioConfig
from octopus.risk.limits import RiskLimits
from resources.settings import ROOT


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"constraints": {"beta_min": 1.0, "beta_max": 0.5}}, r"beta_min = 1\.0 is above beta_max = 0\.5"),
        ({"method": "maximum_sharpe", "impact": 0.1, "impact_law": "quadratic"}, "use square_root"),
        ({"method": "best"}, "mean_variance"),
        ({"risk_budgets": {"AAPL": 0}}, "greater than 0"),
    ],
)
def test_a_contradiction_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PortfolioConfig.model_validate(settings)


def test_the_shipped_optimiser_stays_inside_the_shipped_risk_limits_of_the_same_name() -> None:
    read = {name: yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text()) for name in ("strategies", "risk")}
    limits = PortfolioConfig.model_validate(read["strategies"]["portfolio"]).constraints.model_dump()
    shared = set(limits) & set(RiskLimits.model_fields)
    assert {"gross_max", "net_min", "net_max", "name_weight_max", "turnover_max", "cash_min_fraction"} <= shared
    for name in shared:
        if limits[name] is None:
            continue
        inside = limits[name] >= read["risk"][name] if "_min" in name else limits[name] <= read["risk"][name]
        assert inside, f"{name} = {limits[name]} is wider than config/risk.yaml allows ({read['risk'][name]})"
