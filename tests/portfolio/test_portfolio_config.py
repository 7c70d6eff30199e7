"""Settings of the portfolio that contradict themselves are refused with what to change."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from octopus.portfolio.config import PortfolioConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"constraints": {"beta_min": 1.0, "beta_max": 0.5}}, r"beta_min = 1\.0 is above beta_max = 0\.5"),
        ({"method": "maximum_sharpe", "impact": 0.1, "impact_law": "quadratic"}, "use square_root"),
        (
            {"method": "minimum_cvar", "cvar_level": 0.995},
            r"covariance_sessions_min = 126 is below the 200 scenarios that cvar_level = 0\.995 needs",
        ),
        ({"method": "best"}, "mean_variance"),
        ({"risk_budgets": {"AAPL": 0}}, "greater than 0"),
    ],
)
def test_a_contradiction_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PortfolioConfig.model_validate(settings)
