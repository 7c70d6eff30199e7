"""The optimiser: the optimum others find, inside every limit, with evidence; and what it says when there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.errors import OctopusError
from octopus.portfolio.config import Constraints, Method
from octopus.portfolio.optimiser import METHODS, optimise, trading_cost
from octopus.portfolio.problem import (
    WEIGHT_TOLERANCE,
    InfeasibleError,
    Problem,
    SolverError,
    reduced_to_limits,
)
from octopus.portfolio.solver import Answer, Programme, solve

COST = 5e-4
SHORTS = Constraints(long_only=False, name_weight_min=-0.1, net_min=-0.3, net_max=0.6, gross_max=1.2, turnover_max=1.0)


def problem_of(seed: int, constraints: Constraints, count: int = 20, **changes: Any) -> Problem:
    generator = np.random.default_rng(seed)
    returns = generator.normal(size=(300, count)) * generator.uniform(0.02, 0.12, count)
    returns += generator.normal(size=(300, 1)) * 0.03
    problem = Problem(
        alpha=generator.normal(size=count) * 0.005 + 0.004,
        covariance=np.cov(returns.T).reshape(count, count),
        previous=np.minimum(generator.dirichlet(np.ones(count)) * 0.9, constraints.name_weight_max),
        tradable=np.ones(count, dtype=bool),
        risk_aversion=3.0,
        cost=COST,
        constraints=constraints,
    )
    return replace(problem, **changes)


def optimum_by_cvxpy(problem: Problem) -> np.ndarray:
    import cvxpy as cp

    limits, w = problem.constraints, cp.Variable(len(problem.alpha))
    turnover = cp.norm1(w - problem.previous)
    turnover_max = limits.turnover_max if problem.previous.any() else limits.turnover_max_initial
    rates = problem.cost + (0.0 * problem.alpha if problem.conversion is None else problem.conversion)
    costs = rates @ cp.abs(w - problem.previous)
    objective = problem.alpha @ w - problem.risk_aversion / 2 * cp.quad_form(w, cp.psd_wrap(problem.covariance))
    model = cp.Problem(
        cp.Maximize(100 * (objective - costs)),
        [
            w <= limits.name_weight_max,
            w >= limits.floor,
            turnover <= turnover_max,
            1 - cp.sum(w) - costs >= limits.cash_min_fraction,
            cp.sum(w) <= limits.net_max,
            cp.sum(w) >= limits.net_min,
            cp.norm1(w) <= limits.gross_max,
        ],
    )
    model.solve(solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    return np.asarray(w.value)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("constraints", [Constraints(), SHORTS, Constraints(net_min=0.9, turnover_max=1.5)])
def test_it_finds_the_optimum_that_cvxpy_finds(seed: int, constraints: Constraints) -> None:
    problem = problem_of(seed, constraints)
    np.testing.assert_allclose(optimise(problem).weights, optimum_by_cvxpy(problem), atol=1e-5)


@pytest.mark.parametrize("constraints", [SHORTS, Constraints(net_min=0.9, turnover_max=1.5)])
def test_what_an_instruments_conversion_costs_is_reckoned_with(constraints: Constraints) -> None:
    free = problem_of(3, constraints)
    conversion = np.where(np.arange(20) % 2, 0.004, 0.0)
    told = replace(free, conversion=conversion)
    weights = optimise(told).weights
    np.testing.assert_allclose(weights, optimum_by_cvxpy(told), atol=1e-5)
    changes, before = (np.abs(found - free.previous) for found in (weights, optimise(free).weights))
    assert changes[1::2].sum() < 0.8 * before[1::2].sum()
    assert trading_cost(told, weights) == pytest.approx(COST * changes.sum() + 0.004 * changes[1::2].sum(), abs=1e-12)
    same = optimise(replace(free, conversion=np.zeros(20)))
    np.testing.assert_allclose(same.weights, optimise(free).weights, atol=1e-6)


def with_an_outlier(problem: Problem, variance: float) -> Problem:
    """The problem with one instrument more, of that variance, of which nothing is held and nothing expected."""
    count = len(problem.alpha)
    covariance = np.zeros((count + 1, count + 1))
    covariance[1:, 1:], covariance[0, 0] = problem.covariance, variance
    more = {name: np.append(0.0, getattr(problem, name)) for name in ("alpha", "previous")}
    return replace(problem, covariance=covariance, tradable=np.ones(count + 1, dtype=bool), **more)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6), exponent=st.floats(-3, 12), method=st.sampled_from(["mean_variance", "maximum_sharpe"])
)
def test_one_instrument_of_a_wild_variance_does_not_blur_the_others(seed: int, exponent: float, method: Method) -> None:
    """A bad print makes one variance of any size; what is best among the others is as it was."""
    plain = problem_of(seed, Constraints(turnover_max=1.5, net_min=0.5), alpha=np.linspace(0.01, 0.03, 20))
    wild = with_an_outlier(plain, 10.0**exponent)
    found, expected = optimise(wild, method), optimise(plain, method)
    if exponent > 2:
        assert found.weights[0] <= WEIGHT_TOLERANCE
        np.testing.assert_allclose(found.weights[1:], expected.weights, atol=1e-4)
    assert found.certificate.objective >= expected.certificate.objective * (1 - 1e-5)
    assert max(found.certificate.dual_residual, found.certificate.gap) < 1e-5


@pytest.mark.parametrize("variance", [1e-2, 1.0, 1e4, 1e8])
def test_weights_that_are_no_optimum_are_not_certified_whatever_the_largest_variance(
    variance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    wild = with_an_outlier(problem_of(2, Constraints(turnover_max=1.5)), variance)

    def worse(programme: Programme) -> Answer | None:
        answer = solve(programme)
        return None if answer is None else replace(answer, x=0.9 * answer.x)

    optimise(wild)
    monkeypatch.setattr("octopus.portfolio.optimiser.solve", worse)
    with pytest.raises(SolverError, match="residuals of"):
        optimise(wild)


def test_it_finds_the_optimum_that_skfolio_finds() -> None:
    from skfolio.optimization import MeanRisk, ObjectiveFunction

    generator = np.random.default_rng(11)
    returns = generator.normal(size=(500, 8)) * 0.02 + 0.001 * generator.normal(size=8)
    previous = np.full(8, 0.1)
    ours = optimise(
        Problem(
            alpha=returns.mean(axis=0),
            covariance=np.cov(returns.T),
            previous=previous,
            tradable=np.ones(8, dtype=bool),
            risk_aversion=2 * 4.0,  # skfolio has no half before the variance
            cost=COST,
            constraints=Constraints(
                name_weight_max=0.3, net_max=0.95, gross_max=2, turnover_max=10, cash_min_fraction=-5
            ),
        )
    )
    peer = MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_UTILITY,
        risk_aversion=4.0,
        min_weights=0.0,
        max_weights=0.3,
        budget=None,
        min_budget=0.0,
        max_budget=0.95,
        transaction_costs=COST,
        previous_weights=previous,
        solver_params={"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12},
    ).fit(returns)
    np.testing.assert_allclose(ours.weights, peer.weights_, atol=1e-5)
    assert np.abs(ours.weights - previous).sum() > 0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 25),
    long_only=st.booleans(),
    turnover=st.floats(0.05, 1.5),
    maximum=st.floats(0.05, 0.5),
    data=st.data(),
)
def test_every_limit_holds(
    seed: int, count: int, long_only: bool, turnover: float, maximum: float, data: st.DataObject
) -> None:
    limits = Constraints(
        long_only=long_only,
        name_weight_max=maximum,
        name_weight_min=0.0 if long_only else -0.2,
        turnover_max=turnover,
        gross_max=1.1,
    )
    tradable = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    cautious = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    problem = problem_of(seed, limits, count, tradable=tradable, reduce_only=cautious)
    weights, certificate = (solution := optimise(problem)).weights, solution.certificate
    change = np.abs(weights - problem.previous)
    slack = 2 * count * WEIGHT_TOLERANCE
    assert np.array_equal(weights[~tradable], problem.previous[~tradable])
    assert (weights[tradable] <= maximum).all()
    assert (weights[tradable] >= limits.floor).all()
    assert (weights[tradable & cautious] <= problem.previous[tradable & cautious]).all()
    assert change.sum() <= turnover + slack
    assert np.abs(weights).sum() <= 1.1 + slack
    assert limits.net_min - slack <= weights.sum() <= limits.net_max + slack
    assert 1 - weights.sum() - COST * change.sum() >= limits.cash_min_fraction - slack
    assert max(certificate.primal_residual, certificate.dual_residual, certificate.gap) < 1e-5
    assert certificate.objective >= _objective(problem, problem.previous) - 1e-9 or not _allowed(problem)


def _objective(problem: Problem, weights: np.ndarray) -> float:
    risk = problem.risk_aversion / 2 * weights @ problem.covariance @ weights
    return float(problem.alpha @ weights - risk - problem.cost * np.abs(weights - problem.previous).sum())


def _allowed(problem: Problem) -> bool:
    """Holding on is within the limits."""
    limits, held = problem.constraints, problem.previous
    return bool(
        held.sum() <= min(limits.net_max, 1 - limits.cash_min_fraction) and (held <= limits.name_weight_max).all()
    )


@pytest.mark.parametrize("constraints", [Constraints(), SHORTS])
def test_the_same_problem_gives_the_same_bits(constraints: Constraints) -> None:
    first = optimise(problem_of(3, constraints))
    for seed in range(4, 8):  # other problems in between leave nothing behind
        optimise(problem_of(seed, constraints))
    again = optimise(problem_of(3, constraints))
    assert np.array_equal(first.weights, again.weights)
    assert first.certificate == again.certificate


def test_where_no_trade_pays_for_its_cost_nothing_is_traded() -> None:
    problem = problem_of(5, Constraints(turnover_max=5), cost=0.05)
    problem = replace(problem, previous=problem.previous * 0.8)
    assert np.array_equal(optimise(problem).weights, problem.previous)


def test_what_must_go_goes_and_what_cannot_trade_stays() -> None:
    limits = Constraints(turnover_max=1.0)
    problem = problem_of(6, limits)
    previous = problem.previous.copy()
    previous[[0, 1]] = 0.2  # above the limit of one name: it drifted there and cannot be sold
    exits, tradable = np.zeros(20, dtype=bool), np.ones(20, dtype=bool)
    exits[2], tradable[0] = True, False
    weights = optimise(replace(problem, previous=previous, must_exit=exits, tradable=tradable)).weights
    assert weights[0] == 0.2
    assert weights[1] <= limits.name_weight_max
    assert weights[2] == 0.0


def test_active_limits_are_named_with_what_they_cost() -> None:
    problem = problem_of(7, Constraints(turnover_max=0.1), names=tuple(f"S{i}" for i in range(20)))
    solution = optimise(problem)
    price = solution.certificate.active["turnover_max"]
    wider = optimise(replace(problem, constraints=Constraints(turnover_max=0.101)))
    gained = wider.certificate.objective - solution.certificate.objective
    assert gained == pytest.approx(price * 0.001, rel=0.05)
    assert any(name.startswith("name_weight_min:S") for name in solution.certificate.active)


def test_an_account_without_positions_may_be_invested_at_once() -> None:
    problem = problem_of(8, Constraints(turnover_max=0.1, net_min=0.9), previous=np.zeros(20))
    assert optimise(problem).weights.sum() >= 0.9 - 1e-5


def test_clashing_limits_are_named_with_how_much_each_must_give() -> None:
    with pytest.raises(InfeasibleError) as caught:
        optimise(problem_of(9, Constraints(net_min=0.9, name_weight_max=0.04), previous=np.zeros(20)))
    assert caught.value.alone
    assert caught.value.violations == pytest.approx({"name_weight_max": 0.005, "net_min": 0.1}, abs=1e-7)
    assert "name_weight_max = 0.04 by 0.005" in str(caught.value)
    for relaxed in ({"net_min": 0.9, "name_weight_max": 0.0450001}, {"net_min": 0.7999, "name_weight_max": 0.04}):
        optimise(problem_of(9, Constraints(**relaxed), previous=np.zeros(20)))


def test_two_clashes_at_once_are_both_named() -> None:
    limits = Constraints(net_min=0.5, turnover_max=0.1, net_max=0.6, gross_max=0.3)
    previous = np.full(20, 0.01)
    with pytest.raises(InfeasibleError) as caught:
        optimise(problem_of(10, limits, previous=previous))
    assert {"net_min"} <= set(caught.value.violations)
    limits = Constraints(net_min=0.5, turnover_max=0.1, name_weight_min=0.1, name_weight_max=0.11)
    with pytest.raises(InfeasibleError) as caught:
        optimise(problem_of(10, limits, previous=previous))
    assert not caught.value.alone
    assert "turnover_max" in caught.value.violations


def test_infeasible_with_nothing_free_to_move() -> None:
    frozen = np.zeros(20, dtype=bool)
    with pytest.raises(InfeasibleError, match=r"net_min = 0\.9 by 0\.7"):
        optimise(problem_of(1, Constraints(net_min=0.9), tradable=frozen, previous=np.full(20, 0.01)))


def test_a_number_that_is_none_is_refused() -> None:
    alpha = np.full(20, np.nan)
    with pytest.raises(SolverError, match="alpha has 20 values"):
        optimise(problem_of(1, Constraints(), alpha=alpha))
    assert issubclass(SolverError, OctopusError)


def test_the_fallback_leaves_shorts_that_no_sale_could_make_fit() -> None:
    """What cannot be traded is more than the sum of weights may be: covering a short would make it more still."""
    limits = Constraints(long_only=False, name_weight_min=-0.4, name_weight_max=0.4, gross_max=2.0, net_min=-1.0)
    previous, tradable = np.zeros(20), np.ones(20, dtype=bool)
    previous[:2], tradable[0] = (0.99, -0.1), False
    kept = reduced_to_limits(problem_of(0, limits, previous=previous, tradable=tradable))
    np.testing.assert_array_equal(kept, previous)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("field", ["covariance", "previous", "benchmark", "cost", "net_target", "risk_aversion", "tau"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_every_method_names_the_number_that_is_none(method: Method, field: str, bad: float) -> None:
    problem = problem_of(1, Constraints(), benchmark=np.full(20, 0.05), scenarios=np.zeros((20, 20)))
    given = getattr(problem, field)
    if not isinstance(given, float):
        given = given.copy()
        given.flat[0] = bad
    with pytest.raises(SolverError, match=rf"{field} (= {bad}|has 1 values)"):
        optimise(replace(problem, **{field: bad if isinstance(given, float) else given}), method)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.floats(0.1, 2.0),
    long_only=st.booleans(),
    held=st.sampled_from([0.0, 0.1, 1.0]),
    traded=st.sampled_from([0.0, 0.5, 0.8, 1.0]),
)
def test_the_fallback_only_ever_reduces(seed: int, size: float, long_only: bool, held: float, traded: float) -> None:
    generator = np.random.default_rng(seed)
    previous = generator.dirichlet(np.ones(12)) * size * (generator.random(12) <= held)
    if not long_only:
        previous *= generator.choice([-1.0, 1.0], 12)
    limits = Constraints(long_only=long_only, name_weight_min=0.0 if long_only else -0.1, gross_max=0.9)
    tradable = generator.random(12) < traded
    kept = reduced_to_limits(problem_of(0, limits, 12, previous=previous, tradable=tradable))
    assert (np.abs(kept) <= np.abs(previous) + 1e-15).all()
    assert (kept * previous >= 0).all()
    assert np.array_equal(kept[~tradable], previous[~tradable])
    assert np.isfinite(kept).all()
    if tradable.all():
        assert (kept <= limits.name_weight_max + 1e-12).all()
        assert kept.sum() <= min(limits.net_max, 1 - limits.cash_min_fraction) + 1e-12
        assert np.abs(kept).sum() <= 0.9 + 1e-12
