"""Many simulations of one panel: parameter sets, and what each came to, in memory that does not grow with them.

Belongs here: drawing parameter sets, running them on several threads, one outcome for each. Does not: what a parameter
means (the function that turns a set into targets), storing outcomes, progress on a screen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np

from octopus.backtest import kernel
from octopus.backtest.config import BacktestConfig
from octopus.backtest.market import execution_of, market_of, rules_of
from octopus.backtest.metrics import drawdowns
from octopus.backtest.simulator import period
from octopus.backtest.sizing import Sizing
from octopus.core.costs import CostModel
from octopus.core.errors import ConfigError, MissingDataError
from octopus.core.ids import fingerprint
from octopus.core.panel import Panel
from octopus.core.stats import sharpe
from octopus.core.types import FloatArray

Parameters = Mapping[str, Any]
Targets = Callable[[Parameters], FloatArray]
"""From a parameter set to target weights of shape (T, N) like the panel."""


@dataclass(frozen=True, eq=False)
class SweepOutcome:
    """One parameter set, simulated.

    Attributes:
        key: of the parameters; the same set has the same key in every sweep.
        final_equity: account currency; 0.0 where the account was ruined.
        sharpe: annualised; cagr, max_drawdown, turnover_annual: fractions; NaN where they have no value.
        costs: all kinds, account currency.
        returns: net, of each session after the first, shape (sessions - 1,).
    """

    key: str
    parameters: Parameters
    final_equity: float
    sharpe: float
    cagr: float
    max_drawdown: float
    turnover_annual: float
    costs: float
    returns: FloatArray


def parameter_key(parameters: Parameters) -> str:
    """What tells a parameter set from others, whatever the order of its names."""
    return fingerprint(sorted(parameters.items()))


def grid(space: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination, the last name varying fastest.

    Raises:
        ConfigError: a name without a value.
    """
    for name, values in space.items():
        if not values:
            raise ConfigError(where="sweep", field=name, value=list(values), remedy="name at least one value")
    return [dict(zip(space, chosen, strict=True)) for chosen in itertools.product(*space.values())]


@dataclass(frozen=True)
class Range:
    """Numbers to draw from: uniformly between both ends, or uniformly in their logarithm; whole where both ends are."""

    low: float
    high: float
    logarithmic: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.logarithmic and self.low <= 0):
            raise ConfigError(
                where="sweep", field="range", value=f"{self.low}:{self.high}",
                remedy="give the lower end first, and one above 0 for :log",
            )  # fmt: skip

    def draw(self, generator: np.random.Generator) -> float:
        """One number."""
        if self.logarithmic:
            value = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = generator.uniform(self.low, self.high)
        is_whole = isinstance(self.low, int) and isinstance(self.high, int)
        return min(max(round(value), int(self.low)), int(self.high)) if is_whole else float(value)


def draws(space: Mapping[str, Range], count: int, seed: int = 7) -> list[dict[str, Any]]:
    """``count`` different parameter sets drawn at random, the same for the same seed; fewer where the space is smaller.

    The first sets of a larger count are those of a smaller one.
    """
    generator = np.random.default_rng(seed)
    found: dict[str, dict[str, Any]] = {}
    for _ in range(20 * count):
        if len(found) == count:
            break
        chosen = {name: span.draw(generator) for name, span in space.items()}
        found.setdefault(parameter_key(chosen), chosen)
    return list(found.values())


def sweep(
    panel: Panel,
    parameter_sets: Sequence[Parameters],
    targets: Targets,
    config: BacktestConfig,
    sizing: Sizing,
    costs: CostModel,
    *,
    delisting: FloatArray | None = None,
    workers: int = 2,
    done: Collection[str] = (),
) -> Iterator[SweepOutcome]:
    """Simulate every set, by the rules and the compiled session of `octopus.backtest.simulator.simulate_targets`.

    Args:
        workers: threads; the session is compiled and holds no lock of Python's.
        done: keys that are not simulated again.

    Yields:
        Outcomes as they are ready, in no fixed order. Ending the iteration early ends the sweep after what is running.

    Raises:
        MissingDataError: as `simulate_targets`; targets of another shape.
    """
    first, stop = period(panel, config)
    market = market_of(
        panel, config, execution_of(panel, config, first, stop), costs, delisting, long_only=sizing.long_only,
        units=sizing.units,
    )  # fmt: skip
    per_year = panel.clock.per_year
    rules = rules_of(sizing, costs, config, per_year, panel.symbols)

    def one(parameters: Parameters) -> SweepOutcome:
        wanted = np.ascontiguousarray(targets(parameters), dtype=np.float64)
        if wanted.shape != panel.close.shape:
            raise MissingDataError(f"targets have shape {wanted.shape}, the panel {panel.close.shape}")
        record = np.zeros((stop - first, kernel.KINDS))
        account = kernel.new_account(len(panel.symbols), config.initial_cash)
        nothing = np.zeros((0, 0))
        ruined, _ = kernel.run(
            first, stop, config.rebalance_sessions, wanted[first:stop], market, rules, account, record, nothing, nothing
        )
        if ruined >= 0:
            # Lost everything: nothing is left from that session on.
            record[ruined - first :, kernel.EQUITY] = 0.0
        return _outcome(parameters, record, per_year)

    left = [chosen for chosen in parameter_sets if parameter_key(chosen) not in done]
    with ThreadPoolExecutor(workers) as pool:
        waiting = iter(left)
        running: set[Future[SweepOutcome]] = {pool.submit(one, chosen) for chosen in itertools.islice(waiting, workers)}
        while running:
            ready, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(one, chosen) for chosen in itertools.islice(waiting, len(ready))}
            for future in ready:
                yield future.result()


def _outcome(parameters: Parameters, record: FloatArray, per_year: int) -> SweepOutcome:
    equity = record[:, kernel.EQUITY]
    before = np.where(equity[:-1] > 0, equity[:-1], 1.0)
    returns = np.where(equity[:-1] > 0, equity[1:] / before - 1.0, 0.0)
    growth = equity[-1] / equity[0]
    kinds = (kernel.SPREAD, kernel.COMMISSION, kernel.IMPACT, kernel.BORROW, kernel.FINANCING, kernel.CONVERSION)
    return SweepOutcome(
        key=parameter_key(parameters),
        parameters=dict(parameters),
        final_equity=float(equity[-1]),
        sharpe=sharpe(returns, per_year),
        cagr=float(growth ** (per_year / len(returns)) - 1.0),
        max_drawdown=float(drawdowns(equity).min()),
        turnover_annual=float(record[1:, kernel.TURNOVER].mean()) * per_year,
        costs=float(record[:, kinds].sum()),
        returns=returns,
    )
