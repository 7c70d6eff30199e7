"""Every method: what others find, what can be worked out by hand, every limit held, and honest evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.errors import MissingDataError, OctopusError
from octopus.portfolio.allocation import equal_contributions
from octopus.portfolio.black_litterman import posterior
from octopus.portfolio.config import Constraints, Method
from octopus.portfolio.optimiser import METHODS, expected_shortfall, optimise, sharpe, trading_cost, utility, value
from octopus.portfolio.problem import (
    WEIGHT_TOLERANCE,
    InfeasibleError,
    Problem,
    Solution,
    SolverError,
    betas,
    reduced_to_limits,
)

NAMES: tuple[Method, ...] = get_args(Method)
ALLOCATIONS: tuple[Method, ...] = (
    "equal_weight", "inverse_volatility", "risk_parity", "hierarchical_risk_parity",
)  # fmt: skip
AIMING: tuple[Method, ...] = ("minimum_variance", "maximum_sharpe", "minimum_cvar", *ALLOCATIONS)
"""Methods that aim at `Problem.net_target`."""

LOOSE = Constraints(name_weight_max=1, gross_max=1, net_max=1, turnover_max=2, cash_min_fraction=-1)
EXACT = {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}
TIGHT = Constraints(
    name_weight_max=0.2, turnover_max=1.2, sector_weight_max=0.45, beta_min=0.5, beta_max=0.9,
    tracking_error_max_annual=0.15, adv_participation_max=0.05,
)  # fmt: skip


def returns_of(seed: int, count: int = 12, sessions: int = 300) -> np.ndarray:
    generator = np.random.default_rng(seed)
    own = generator.normal(size=(sessions, count)) * generator.uniform(0.006, 0.02, count)
    return own + generator.normal(size=(sessions, 1)) * 0.008 + generator.uniform(0, 0.001, count)


def problem_of(returns: np.ndarray, constraints: Constraints = LOOSE, **changes: Any) -> Problem:
    count = returns.shape[1]
    problem = Problem(
        alpha=returns.mean(axis=0),
        covariance=np.cov(returns.T).reshape(count, count),
        previous=np.zeros(count),
        tradable=np.ones(count, dtype=bool),
        risk_aversion=2.0,
        cost=0.0,
        constraints=constraints,
        scenarios=returns,
    )
    return replace(problem, **changes)


def limited(seed: int, **changes: Any) -> Problem:
    """A problem in which every kind of limit exists."""
    generator = np.random.default_rng(seed)
    start = generator.dirichlet(np.ones(12)) * 0.7
    liquid = {"sectors": ("a", "a", "a", "b", "b", "b", "c", "c", "c", "", "", ""), "adv": generator.uniform(2, 9, 12)}
    given: dict[str, Any] = {"previous": np.minimum(start, 0.2), "cost": 5e-4, "net_target": 0.9} | liquid | changes
    return problem_of(returns_of(seed), given.pop("constraints", TIGHT), **given)


# -- what others find --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maximum", [1.0, 0.15])
def test_minimum_variance_is_skfolio_s(maximum: float) -> None:
    from skfolio.optimization import MeanRisk

    returns = returns_of(1)
    peer = MeanRisk(max_weights=maximum, solver_params=EXACT).fit(returns)
    problem = problem_of(returns, LOOSE.model_copy(update={"name_weight_max": maximum}))
    np.testing.assert_allclose(optimise(problem, "minimum_variance").weights, peer.weights_, atol=1e-5)


def test_maximum_sharpe_is_skfolio_s() -> None:
    from skfolio.optimization import MeanRisk, ObjectiveFunction

    returns = returns_of(2)
    peer = MeanRisk(objective_function=ObjectiveFunction.MAXIMIZE_RATIO, max_weights=0.3, solver_params=EXACT).fit(
        returns
    )
    problem = problem_of(returns, LOOSE.model_copy(update={"name_weight_max": 0.3}))
    solution = optimise(problem, "maximum_sharpe")
    np.testing.assert_allclose(solution.weights, peer.weights_, atol=1e-5)
    assert solution.certificate.objective == pytest.approx(sharpe(problem, peer.weights_), rel=1e-7)


@pytest.mark.parametrize("level", [0.95, 0.9, 0.937])
def test_minimum_cvar_is_skfolio_s(level: float) -> None:
    from skfolio import RiskMeasure
    from skfolio.optimization import MeanRisk

    returns = returns_of(3)
    peer = MeanRisk(risk_measure=RiskMeasure.CVAR, cvar_beta=level, max_weights=0.4, solver_params=EXACT).fit(returns)
    problem = problem_of(returns, LOOSE.model_copy(update={"name_weight_max": 0.4}), cvar_level=level)
    solution = optimise(problem, "minimum_cvar")
    found, _ = expected_shortfall(returns @ peer.weights_, level)
    assert solution.certificate.objective == pytest.approx(found, rel=1e-6)
    assert solution.certificate.objective <= found + 1e-12
    np.testing.assert_allclose(solution.weights, peer.weights_, atol=1e-5)
    assert solution.certificate.measures["seen"] < len(returns)


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")  # of the peer, asked for more than it can
@pytest.mark.parametrize("budgets", [None, np.arange(1.0, 13.0)])
def test_risk_parity_is_skfolio_s(budgets: np.ndarray | None) -> None:
    from skfolio.optimization import RiskBudgeting

    returns = returns_of(4)
    peer = RiskBudgeting(risk_budget=budgets, solver_params=EXACT).fit(returns)
    weights = optimise(problem_of(returns, risk_budgets=budgets), "risk_parity").weights
    np.testing.assert_allclose(weights, peer.weights_, atol=1e-5)
    shares = weights * (np.cov(returns.T) @ weights)
    wanted = np.ones(12) if budgets is None else budgets
    np.testing.assert_allclose(shares / shares.sum(), wanted / wanted.sum(), rtol=1e-8)


@pytest.mark.parametrize("linkage", ["ward", "single", "average"])
@pytest.mark.parametrize("count", [2, 7, 12])
def test_hierarchical_risk_parity_is_skfolio_s(linkage: str, count: int) -> None:
    from skfolio.cluster import HierarchicalClustering, LinkageMethod
    from skfolio.optimization import HierarchicalRiskParity
    from skfolio.seriation import HierarchicalSeriation

    returns = returns_of(5, count)
    clustering = HierarchicalClustering(linkage_method=LinkageMethod(linkage))
    seriation = HierarchicalSeriation(hierarchical_clustering_estimator=clustering)
    peer = HierarchicalRiskParity(seriation_estimator=seriation).fit(returns)
    ours = optimise(problem_of(returns, linkage=linkage), "hierarchical_risk_parity")
    np.testing.assert_allclose(ours.weights, peer.weights_, rtol=1e-9)


@pytest.mark.parametrize("confidence", [0.5, 0.2, 0.9])
def test_the_posterior_is_skfolio_s(confidence: float) -> None:
    from skfolio.moments import EquilibriumMu
    from skfolio.prior import BlackLitterman, EmpiricalPrior

    returns, told = returns_of(6, 5), np.array([0.002, np.nan, -0.001, np.nan, np.nan])
    names = np.array([[f"S{i}" for i in range(5)]])
    prior = EmpiricalPrior(mu_estimator=EquilibriumMu(risk_aversion=3.0))
    views, sure = ["S0 == 0.002", "S2 == -0.001"], [confidence] * 2
    peer = BlackLitterman(views, groups=names, prior_estimator=prior, tau=0.05, view_confidences=sure).fit(returns)
    mu, covariance = posterior(np.cov(returns.T), np.full(5, 0.2), 3.0, told, confidence=confidence, tau=0.05)
    np.testing.assert_allclose(mu, peer.return_distribution_.mu, rtol=1e-8)
    np.testing.assert_allclose(covariance, peer.return_distribution_.covariance, rtol=1e-8)


def test_inverse_volatility_is_skfolio_s() -> None:
    from skfolio.optimization import InverseVolatility

    returns = returns_of(7)
    weights = optimise(problem_of(returns), "inverse_volatility").weights
    np.testing.assert_allclose(weights, InverseVolatility().fit(returns).weights_, rtol=1e-9)


def by_cvxpy(problem: Problem, method: Method) -> np.ndarray:
    """The same programme with every limit, written for a modelling layer."""
    import cvxpy as cp

    limits, w, previous = problem.constraints, cp.Variable(12), problem.previous
    moved = cp.abs(w - previous)
    cost = problem.cost * cp.sum(moved)
    if problem.impact is not None:
        cost += problem.impact @ cp.power(moved, problem.impact_power)
    variance = cp.quad_form(w, cp.psd_wrap(problem.covariance))
    root = np.linalg.cholesky(problem.covariance).T * np.sqrt(problem.periods_per_year)
    assert problem.adv is not None
    rules = [
        w >= 0, w <= limits.name_weight_max, cp.sum(moved) <= limits.turnover_max, cp.sum(w) <= limits.net_max,
        1 - cp.sum(w) - problem.cost * cp.sum(moved) >= limits.cash_min_fraction, moved <= 0.05 * problem.adv,
        betas(problem) @ w <= limits.beta_max, betas(problem) @ w >= limits.beta_min,
        cp.norm(root @ (w - np.full(12, 1 / 12))) <= limits.tracking_error_max_annual,
        *(cp.sum(w[3 * i : 3 * i + 3]) <= limits.sector_weight_max for i in range(4)),
    ]  # fmt: skip
    if method == "mean_variance":
        aim = cp.Maximize(100 * (problem.alpha @ w - problem.risk_aversion / 2 * variance - cost))
    elif method == "minimum_variance":
        aim, rules = cp.Minimize(1000 * (problem.risk_aversion / 2 * variance + cost)), [*rules, cp.sum(w) == 0.9]
    else:
        tail = cp.sum_largest(-problem.scenarios @ w, 15) / 15
        aim, rules = cp.Minimize(100 * (tail + cost)), [*rules, cp.sum(w) == 0.9]
    cp.Problem(aim, rules).solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    return np.asarray(w.value)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("method", ["mean_variance", "minimum_variance", "minimum_cvar"])
def test_under_every_kind_of_limit_the_optimum_is_cvxpy_s(method: Method, seed: int) -> None:
    problem = limited(seed, constraints=TIGHT.model_copy(update={"beta_min": 0.88}))
    solution = optimise(problem, method)
    np.testing.assert_allclose(solution.weights, by_cvxpy(problem, method), atol=2e-5)
    new = ("beta_max", "beta_min", "tracking_error_max_annual", "adv_participation_max", "sector_weight_max")
    assert any(name.split(":")[0] in new for name in solution.certificate.active)


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
@pytest.mark.parametrize("power", [1.5, 2.0])
@pytest.mark.parametrize("method", ["mean_variance", "minimum_variance"])
def test_with_impact_the_optimum_is_cvxpy_s(method: Method, power: float) -> None:
    problem = limited(7, impact=np.linspace(0.001, 0.01, 12), impact_power=power)
    solution = optimise(problem, method)
    np.testing.assert_allclose(solution.weights, by_cvxpy(problem, method), atol=2e-5)
    plain = optimise(replace(problem, impact=None), method)
    assert solution.certificate.trading_cost < trading_cost(problem, plain.weights)


def test_maximum_sharpe_with_impact_and_limits_beats_every_other_allowed_portfolio() -> None:
    problem = limited(8, impact=np.full(12, 0.002))
    best = optimise(problem, "maximum_sharpe")
    generator = np.random.default_rng(0)
    others = [optimise(replace(problem, alpha=generator.normal(size=12) * 0.001), "minimum_cvar").weights]
    for seed in range(40):
        aim = replace(problem, alpha=np.random.default_rng(seed).normal(size=12) * 0.003, cost=0.0, impact=None)
        others.append(
            optimise(replace(aim, constraints=TIGHT.model_copy(update={"net_min": 0.9, "net_max": 0.9}))).weights
        )
    assert best.certificate.objective >= max(sharpe(problem, weights) for weights in others) - 1e-7


# -- what can be worked out by hand ------------------------------------------------------------------------------------


def test_without_correlation_the_least_variance_is_inverse_variance_and_equal_risk_inverse_volatility() -> None:
    deviations = np.array([0.1, 0.2, 0.4])
    problem = problem_of(returns_of(9, 3), covariance=np.diag(deviations**2), scenarios=None)
    np.testing.assert_allclose(
        optimise(problem, "minimum_variance").weights, deviations**-2 / (deviations**-2).sum(), atol=1e-7
    )
    for method in ("risk_parity", "inverse_volatility"):
        np.testing.assert_allclose(
            optimise(problem, method).weights, (1 / deviations) / (1 / deviations).sum(), rtol=1e-9
        )


def test_the_best_ratio_without_limits_that_bind_is_the_tangency_portfolio() -> None:
    covariance = np.array([[0.04, 0.01, 0.0], [0.01, 0.09, 0.02], [0.0, 0.02, 0.16]])
    alpha = np.array([0.05, 0.06, 0.08])
    expected = np.linalg.solve(covariance, alpha)
    solution = optimise(problem_of(returns_of(9, 3), covariance=covariance, alpha=alpha), "maximum_sharpe")
    np.testing.assert_allclose(solution.weights, expected / expected.sum(), atol=1e-6)
    assert solution.certificate.objective == pytest.approx(float(np.sqrt(alpha @ expected)), rel=1e-7)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(20, 60), sessions=st.integers(5, 120), scale=st.floats(0.01, 10))
def test_a_ratio_is_finite_or_refused_as_riskless(seed: int, count: int, sessions: int, scale: float) -> None:
    """More instruments than sessions leave long and short weights without any risk."""
    generator = np.random.default_rng(seed)
    limits = LOOSE.model_copy(
        update={
            "long_only": False,
            "name_weight_min": -1.0,
            "net_min": 0.0,
            "gross_max": 5.0,
            "turnover_max_initial": 5.0,
        }
    )
    returns = generator.normal(size=(sessions, count)) * 0.01 * scale
    problem = problem_of(returns, limits, alpha=np.abs(generator.normal(size=count)) * 0.003, net_target=0.9)
    outcome = attempted(problem, "maximum_sharpe")
    if isinstance(outcome, Solution):
        variance = outcome.weights @ problem.covariance @ outcome.weights
        assert outcome.certificate.objective == pytest.approx(problem.alpha @ outcome.weights / np.sqrt(variance))
        assert np.sqrt(variance) > 1e-6 * np.abs(outcome.weights) @ np.sqrt(problem.covariance.diagonal())
    else:
        assert sessions <= count + 1
        assert "covariance_estimator = ledoit_wolf" in str(outcome)


def test_a_gain_without_risk_has_no_ratio() -> None:
    """A price that stands still and a view that it rises."""
    covariance = np.diag([0.0, 0.04, 0.09])
    problem = problem_of(returns_of(9, 3), covariance=covariance, alpha=np.array([0.01, 0.05, 0.06]))
    with pytest.raises(SolverError, match=r"no risk by the covariance.*ledoit_wolf"):
        optimise(problem, "maximum_sharpe")
    assert sharpe(problem, np.array([1.0, 0.0, 0.0])) == 0.0


def test_the_shortfall_is_the_mean_of_the_tail_and_completes_it_in_part() -> None:
    returns = -np.arange(1.0, 11.0)
    assert expected_shortfall(returns, 0.8) == (pytest.approx(9.5), 9.0)
    assert expected_shortfall(returns, 0.75)[0] == pytest.approx((10 + 9 + 0.5 * 8) / 2.5)
    assert expected_shortfall(returns, 0.9)[0] == pytest.approx(10.0)


def test_a_certain_view_is_believed_and_without_views_the_market_stays() -> None:
    covariance, market = np.cov(returns_of(10, 4).T), np.array([0.4, 0.3, 0.2, 0.1])
    mu, _ = posterior(covariance, market, 3.0, np.array([0.01, np.nan, np.nan, np.nan]), confidence=1.0)
    assert mu[0] == pytest.approx(0.01, rel=1e-9)
    problem = problem_of(returns_of(10, 4), benchmark=market, tau=1e-9)
    np.testing.assert_allclose(optimise(problem, "black_litterman").weights, market, atol=1e-5)
    liked = replace(problem, views=np.array([np.nan, 0.01, np.nan, np.nan]), tau=0.05)
    assert optimise(liked, "black_litterman").weights[1] > 0.3
    with pytest.raises(MissingDataError, match="view_confidence = 0"):
        posterior(covariance, market, 3.0, market, confidence=0.0)


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 30), sessions=st.integers(2, 60), still=st.booleans())
def test_certain_views_are_met_or_refused(seed: int, count: int, sessions: int, still: bool) -> None:
    """Whatever the rank of the covariance: more instruments than sessions, or a price that stands still."""
    generator, returns = np.random.default_rng(seed), returns_of(seed, count, sessions)
    returns[:, 0] = 0.0 if still else returns[:, 0]
    views = np.where(generator.random(count) < 0.7, generator.normal(size=count) * 0.003, np.nan)
    views[0] = 0.001
    covariance = np.cov(returns.T).reshape(count, count)
    singular = still or int(np.isfinite(views).sum()) >= sessions
    if singular:
        with pytest.raises(SolverError, match="covariance_estimator = ledoit_wolf"):
            posterior(covariance, np.full(count, 1 / count), 3.0, views, confidence=1.0)
        return
    mu, after = posterior(covariance, np.full(count, 1 / count), 3.0, views, confidence=1.0)
    seen = np.isfinite(views)
    np.testing.assert_allclose(mu[seen], views[seen], atol=1e-6 * (np.abs(views[seen]).max() + np.abs(mu).max()))
    assert np.isfinite(after).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), confidence=st.floats(0.05, 1.0), tau=st.floats(0.01, 1.0), shorts=st.booleans())
def test_views_move_no_limit(seed: int, confidence: float, tau: float, shorts: bool) -> None:
    """Beta and tracking error stay within their limits by the covariance that was estimated."""
    generator = np.random.default_rng(seed)
    changes = {"long_only": False, "name_weight_min": -0.5, "net_min": -1.0} if shorts else {}
    limits = LOOSE.model_copy(update=changes)
    problem = problem_of(
        returns_of(seed, 6), risk_aversion=1.0, benchmark=np.full(6, 1 / 6), view_confidence=confidence, tau=tau,
        views=np.where(np.arange(6) < 3, generator.normal(size=6) * 0.01, np.nan),
    )  # fmt: skip
    beta = betas(problem)
    flat = limits.model_copy(update={"beta_max": 0.8, "beta_min": 0.1})
    weights = optimise(replace(problem, constraints=flat), "black_litterman").weights
    assert 0.1 - 1e-5 <= beta @ weights <= 0.8 + 1e-5
    near = limits.model_copy(update={"tracking_error_max_annual": 0.05})
    active = optimise(replace(problem, constraints=near), "black_litterman").weights - 1 / 6
    assert np.sqrt(active @ problem.covariance @ active * problem.periods_per_year) <= 0.05 + 1e-4


def test_equal_contributions_are_equal_whatever_the_size() -> None:
    covariance = np.cov(returns_of(11, 40).T)
    for scale in (1e-6, 1.0, 1e6):
        x, residual, steps = equal_contributions(covariance * scale, np.full(40, 1 / 40))
        np.testing.assert_allclose(x * (covariance * scale @ x), 1 / 40, rtol=1e-9)
        assert residual <= 1e-10
        assert steps < 20


# -- every method ------------------------------------------------------------------------------------------------------


def assert_allowed(problem: Problem, weights: np.ndarray) -> None:
    limits, previous = problem.constraints, problem.previous
    slack, change = 24 * WEIGHT_TOLERANCE, np.abs(weights - previous)
    free = problem.tradable
    assert np.array_equal(weights[~free], previous[~free])
    assert (weights[free] >= limits.floor).all()
    assert (weights[free] <= limits.name_weight_max).all()
    assert change.sum() <= limits.turnover_max + slack
    assert np.abs(weights).sum() <= limits.gross_max + slack
    assert limits.net_min - slack <= weights.sum() <= limits.net_max + slack
    assert 1 - weights.sum() - problem.cost * change.sum() >= limits.cash_min_fraction - slack
    if limits.adv_participation_max is not None and problem.adv is not None:
        assert (change[free] <= limits.adv_participation_max * problem.adv[free] + slack).all()
    for sector in set(problem.sectors) if limits.sector_weight_max is not None else ():
        inside = np.array([name == sector for name in problem.sectors])
        assert np.abs(weights[inside]).sum() <= (limits.sector_weight_max or 0) + slack
    if limits.beta_min is not None and limits.beta_max is not None:
        assert limits.beta_min - slack <= betas(problem) @ weights <= limits.beta_max + slack
    if limits.tracking_error_max_annual is not None:
        active = weights - 1 / 12
        error = np.sqrt(active @ problem.covariance @ active * problem.periods_per_year)
        assert error <= limits.tracking_error_max_annual + slack


def attempted(problem: Problem, method: Method) -> Solution | InfeasibleError | SolverError:
    try:
        return optimise(problem, method)
    except (InfeasibleError, SolverError) as error:
        return error


@pytest.mark.parametrize("method", NAMES)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), shorts=st.booleans(), impact=st.booleans(), data=st.data())
def test_every_limit_holds_and_the_certificate_says_so_or_the_clash_is_named(
    method: Method, seed: int, shorts: bool, impact: bool, data: st.DataObject
) -> None:
    tightness = data.draw(st.floats(0.3, 1.5))
    changes: dict[str, Any] = {
        "turnover_max": 1.2 * tightness, "sector_weight_max": 0.45 * tightness,
        "tracking_error_max_annual": 0.2 * tightness,
    }  # fmt: skip
    if shorts:
        changes |= {"long_only": False, "name_weight_min": -0.1}
    frozen = np.array(data.draw(st.lists(st.integers(0, 9).map(bool), min_size=12, max_size=12)))
    problem = limited(
        seed, constraints=TIGHT.model_copy(update=changes), impact=np.full(12, 0.003) if impact else None,
        benchmark=np.full(12, 1 / 12), tradable=frozen,
    )  # fmt: skip
    outcome = attempted(problem, method)
    if isinstance(outcome, InfeasibleError):
        assert outcome.violations
        assert all(amount > 0 for amount in outcome.violations.values())
        assert all(name in str(outcome) for name in outcome.violations)
        return
    if isinstance(outcome, SolverError):
        assert method == "maximum_sharpe", outcome
        assert "earn more than cash" in str(outcome)
        return
    found = outcome.certificate
    assert found.method == method
    assert max(found.primal_residual, found.dual_residual, found.gap) <= 1e-5
    assert found.conditions
    assert_allowed(problem, outcome.weights)


@pytest.mark.parametrize("method", NAMES)
def test_the_same_problem_gives_the_same_bits(method: Method) -> None:
    first = optimise(limited(3), method)
    optimise(limited(4), method)
    again = optimise(limited(3), method)
    assert np.array_equal(first.weights, again.weights)
    assert first.certificate == again.certificate


@pytest.mark.parametrize("method", ["minimum_variance", "maximum_sharpe", "minimum_cvar", *ALLOCATIONS])
def test_the_currency_of_returns_changes_nothing(method: Method) -> None:
    returns = returns_of(12)
    one, ten = (optimise(problem_of(scale * returns), method).weights for scale in (1.0, 10.0))
    np.testing.assert_allclose(one, ten, atol=2e-6)


@pytest.mark.parametrize("method", [name for name in NAMES if name != "hierarchical_risk_parity"])
def test_the_order_of_the_instruments_changes_nothing(method: Method) -> None:
    returns, order = returns_of(13), np.random.default_rng(1).permutation(12)
    straight, shuffled = (optimise(problem_of(given), method).weights for given in (returns, returns[:, order]))
    np.testing.assert_allclose(straight[order], shuffled, atol=2e-6)


@pytest.mark.parametrize("method", NAMES)
def test_no_allowed_change_improves_the_value(method: Method) -> None:
    problem = limited(14)
    weights = optimise(problem, method).weights
    best = value(problem, weights, method)
    for seed in range(30):
        toward = optimise(replace(problem, alpha=np.random.default_rng(seed).normal(size=12), cost=0.0)).weights
        if method in AIMING:
            toward = weights + (toward - weights) - (toward - weights).mean()
        for part in (0.01, 0.3):
            moved = weights + part * (toward - weights)
            try:
                assert_allowed(problem, moved)
            except AssertionError:
                continue
            assert value(problem, moved, method) <= best + 1e-7


@pytest.mark.parametrize("method", ALLOCATIONS)
def test_methods_without_limits_say_whether_they_were_projected(method: Method) -> None:
    free = optimise(problem_of(returns_of(15)), method).certificate
    assert free.status == "closed"
    assert "every limit holds" in free.conditions
    bound = optimise(problem_of(returns_of(15), LOOSE.model_copy(update={"name_weight_max": 0.085})), method)
    if method == "equal_weight":
        assert bound.status == "closed"
        return
    assert bound.certificate.status == "Solved"
    assert "nearest to the method's own weights" in bound.certificate.conditions
    assert bound.certificate.measures["projection_distance"] > 0
    assert bound.weights.max() <= 0.085


@pytest.mark.parametrize("method", AIMING)
def test_a_sum_that_the_limits_forbid_is_neared_and_told(method: Method) -> None:
    held = np.full(12, 0.02)
    problem = problem_of(returns_of(16), LOOSE.model_copy(update={"turnover_max": 0.1}), previous=held, net_target=0.9)
    solution = optimise(problem, method)
    assert solution.weights.sum() == pytest.approx(0.34, abs=2e-5)
    assert solution.certificate.measures["net_target_missed"] == pytest.approx(-0.56, abs=2e-5)


@pytest.mark.parametrize("method", [method for method in AIMING if method != "maximum_sharpe"])
def test_where_a_cap_binds_the_others_make_up_for_it(method: Method) -> None:
    """One instrument is so calm that by risk it would hold most of the equity."""
    returns = returns_of(26, 6) * np.array([0.05, 1, 1, 1, 1, 1])
    problem = problem_of(returns, LOOSE.model_copy(update={"name_weight_max": 0.25}), net_target=0.97)
    solution = optimise(problem, method)
    assert solution.weights.sum() == pytest.approx(0.97, abs=1e-6)
    assert solution.weights.max() <= 0.25
    assert "net_target_missed" not in solution.certificate.measures
    if method == "risk_parity":
        # The least squares of what each is moved by: the same for all that no cap holds.
        from octopus.portfolio.allocation import risk_parity

        moved = (solution.weights - risk_parity(problem).weights)[1:]
        np.testing.assert_allclose(moved, moved.mean(), atol=1e-6)


@pytest.mark.parametrize("method", [method for method in AIMING if method != "maximum_sharpe"])
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6), cap=st.floats(0.03, 0.4), turnover=st.floats(0.05, 1.5), aim=st.floats(0.1, 1.2),
    cautious=st.lists(st.booleans(), min_size=12, max_size=12),
)  # fmt: skip
def test_every_method_reaches_the_sum_or_says_by_how_much_the_limits_keep_it_from_it(
    method: Method, seed: int, cap: float, turnover: float, aim: float, cautious: list[bool]
) -> None:
    import cvxpy as cp

    constraints = Constraints(name_weight_max=cap, turnover_max=turnover, net_max=0.95, cash_min_fraction=0.02)
    problem = limited(seed, constraints=constraints, net_target=aim, reduce_only=np.array(cautious))
    problem = replace(problem, previous=np.minimum(problem.previous, cap))
    w, held = cp.Variable(12), problem.previous
    moved = cp.sum(cp.abs(w - held))
    rules = [
        w >= 0, w <= np.where(cautious, held, cap), moved <= turnover, cp.sum(w) <= 0.95,
        1 - cp.sum(w) - problem.cost * moved >= 0.02,
    ]  # fmt: skip
    least = cp.Problem(cp.Minimize(cp.abs(cp.sum(w) - aim)), rules).solve(solver="CLARABEL")
    solution = optimise(problem, method)
    missed = solution.weights.sum() - aim
    assert abs(missed) == pytest.approx(least, abs=5e-5)
    told = solution.certificate.measures.get("net_target_missed", 0.0)
    assert told == pytest.approx(missed, abs=2 * WEIGHT_TOLERANCE)
    assert_allowed(problem, solution.weights)


@pytest.mark.parametrize("method", NAMES)
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6), total=st.sampled_from([0.0, 1 / 3, 0.5, 0.9, 1.0]), held=st.booleans(),
    width=st.sampled_from([0.0, 1e-9, 1e-7, 3e-6, 2e-5]), by_cash=st.booleans(),
)  # fmt: skip
def test_where_only_one_sum_is_allowed_it_is_taken(
    method: Method, seed: int, total: float, held: bool, width: float, by_cash: bool
) -> None:
    """Fully invested, half, dollar neutral: by limits on the sum, or by one of them and by cash."""
    # A ratio knows no size: a sum of next to nothing would make all weights as small.
    width = 0.0 if method == "maximum_sharpe" and not total else width
    limits: dict[str, Any] = {"net_min": total, "net_max": 1.0, "cash_min_fraction": 1 - total - width}
    if not by_cash:
        limits = {"net_min": total, "net_max": total + width}
    if not total:
        limits |= {"long_only": False, "name_weight_min": -0.5}
    previous = np.full(12, total / 12) if held else np.zeros(12)
    problem = problem_of(
        returns_of(seed), LOOSE.model_copy(update=limits), previous=previous, net_target=0.97,
        alpha=np.abs(np.random.default_rng(seed).normal(size=12)) * 0.01,
    )  # fmt: skip
    solution = optimise(problem, method)
    assert solution.weights.sum() == pytest.approx(total, abs=width + 1e-5)


def test_the_error_names_alpha_only_where_alpha_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    from octopus.portfolio import optimiser

    monkeypatch.setattr(optimiser, "solve", lambda programme: None)
    problem = problem_of(returns_of(27))
    for method in ("minimum_variance", "minimum_cvar"):
        with pytest.raises(SolverError, match="weights that sum to 1, but the solver finds no optimum") as caught:
            optimise(problem, method)  # type: ignore[arg-type]
        assert "alpha" not in str(caught.value)


def test_where_nothing_can_move_everything_stays() -> None:
    held = np.full(12, 0.05)
    for method in NAMES:
        solution = optimise(problem_of(returns_of(17), previous=held, tradable=np.zeros(12, dtype=bool)), method)
        assert np.array_equal(solution.weights, held)


def test_what_may_not_be_bought_is_not_and_its_share_goes_to_the_others() -> None:
    unknown = np.zeros(12, dtype=bool)
    unknown[:4] = True
    for method in ALLOCATIONS:
        weights = optimise(problem_of(returns_of(18), reduce_only=unknown), method).weights
        assert not weights[:4].any()
        assert weights.sum() == pytest.approx(1.0)


# -- clashes and missing data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sector_weight_max": 0.1, "net_min": 0.6}, {"net_min"}),
        ({"beta_max": 0.2, "net_min": 0.6}, {"beta_max", "net_min"}),
        ({"beta_min": 1.5}, {"beta_min"}),
        ({"tracking_error_max_annual": 0.001, "net_max": 0.5}, {"tracking_error_max_annual", "net_max"}),
        ({"adv_participation_max": 0.0001, "net_min": 0.95}, {"adv_participation_max", "net_min"}),
    ],
)
@pytest.mark.parametrize("method", ["mean_variance", "minimum_cvar", "risk_parity"])
def test_each_new_limit_is_named_when_it_clashes(method: Method, changes: dict[str, float], named: set[str]) -> None:
    problem = limited(19, constraints=LOOSE.model_copy(update=changes))
    with pytest.raises(InfeasibleError) as caught:
        optimise(problem, method)
    assert named <= set(caught.value.violations)
    # As much as it says is enough, and a little less is not.
    for name in named if caught.value.alone else ():
        amount = caught.value.violations[name]
        sign = -1.0 if name.endswith("_min") else 1.0
        limit = getattr(problem.constraints, name)
        enough, less = (limit + sign * (amount + part * 1e-3 * amount) for part in (1, -1))
        optimise(replace(problem, constraints=problem.constraints.model_copy(update={name: enough})), method)
        with pytest.raises(InfeasibleError):
            optimise(replace(problem, constraints=problem.constraints.model_copy(update={name: less})), method)


def relaxed(problem: Problem, amounts: dict[str, float]) -> Problem:
    """Each limit of ``amounts`` gives way by a little more than its amount."""
    given: dict[str, float] = {}
    for told, amount in amounts.items():
        name = told.split(":")[0]
        sign = -1.0 if name.endswith("_min") or name == "cash_min_fraction" else 1.0
        wider = getattr(problem.constraints, name) + sign * (amount * 1.001 + 1e-6)
        given[name] = max(wider, given.get(name, wider))
    return replace(problem, constraints=problem.constraints.model_copy(update=given))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6), long_only=st.booleans(), holds=st.booleans(),
    leaving=st.sampled_from([0.0, 0.2, 0.5, 1.0]), data=st.data(),
)  # fmt: skip
def test_what_is_told_to_give_way_is_enough(
    seed: int, long_only: bool, holds: bool, leaving: float, data: st.DataObject
) -> None:
    generator = np.random.default_rng(seed)
    changes = {
        "long_only": long_only, "name_weight_max": generator.uniform(0.05, 0.4),
        "name_weight_min": generator.choice([0.0, 0.03]) if long_only else -generator.uniform(0, 0.3),
        "net_min": generator.uniform(0.1, 0.8), "net_max": generator.uniform(0.8, 1),
        "gross_max": generator.uniform(0.3, 1.2), "turnover_max": generator.uniform(0.02, 1),
        "turnover_max_initial": generator.uniform(0.1, 1), "cash_min_fraction": generator.uniform(0, 0.6),
    }  # fmt: skip
    further = {"sector_weight_max": (0.1, 0.5), "adv_participation_max": (0.01, 0.2), "beta_max": (-0.2, 0.8),
               "tracking_error_max_annual": (0.01, 0.2)}  # fmt: skip
    also = {"adv_participation_max"} if leaving else set()
    for name in sorted(data.draw(st.sets(st.sampled_from(sorted(further)))) | also):
        changes[name] = generator.uniform(*further[name])
    problem = limited(
        seed, constraints=LOOSE.model_copy(update=changes), adv=generator.uniform(0.1, 3, 12),
        previous=generator.dirichlet(np.ones(12)) * generator.uniform(0.1, 1.2) if holds else np.zeros(12),
        tradable=generator.random(12) < 0.8, reduce_only=generator.random(12) < 0.3, benchmark=np.full(12, 1 / 12),
        must_exit=generator.random(12) < leaving,
    )  # fmt: skip
    outcome = attempted(problem, "mean_variance")
    if not isinstance(outcome, InfeasibleError):
        return
    told = outcome.violations
    assert told
    assert "turnover_max" not in told if not problem.previous.any() else "turnover_max_initial" not in told
    for cure in [{name: amount} for name, amount in told.items()] if outcome.alone else [told]:
        assert not isinstance(attempted(relaxed(problem, cure), "mean_variance"), InfeasibleError), cure


def test_a_floor_of_zero_gives_no_way_and_the_field_that_counts_is_named() -> None:
    """No short makes room within a sector of a long-only account; its first purchases have a limit of their own."""
    held = np.where(np.arange(12) < 3, 0.1, 0.0)
    limits = LOOSE.model_copy(update={"sector_weight_max": 0.2})
    problem = limited(20, previous=held, tradable=np.arange(12) >= 2, constraints=limits, sectors=("a",) * 12)
    assert optimise(problem).weights.sum() == pytest.approx(0.2, abs=1e-6)
    frozen = replace(problem, tradable=np.arange(12) >= 3)
    with pytest.raises(InfeasibleError) as caught:
        optimise(frozen)
    assert caught.value.violations == pytest.approx({"sector_weight_max:a": 0.1}, abs=1e-6)
    first = LOOSE.model_copy(update={"net_min": 0.5, "turnover_max_initial": 0.3})
    with pytest.raises(InfeasibleError, match=r"turnover_max_initial = 0\.3 by 0\.2"):
        optimise(problem_of(returns_of(28), first))
    short = replace(problem, previous=np.where(np.arange(12) == 0, -0.1, 0.0), adv=np.full(12, np.nan))
    short = replace(short, tradable=np.ones(12, dtype=bool))
    with pytest.raises(InfeasibleError, match="held short while long_only is true"):
        optimise(replace(short, constraints=LOOSE.model_copy(update={"adv_participation_max": 0.1})))


def test_participation_is_named_where_raising_it_cures_though_more_of_what_must_go_is_sold() -> None:
    limits = LOOSE.model_copy(update={"net_min": 0.6, "adv_participation_max": 0.1})
    problem = problem_of(
        returns_of(30, 2), limits, previous=np.array([0.5, 0.1]), must_exit=np.array([True, False]),
        adv=np.array([2.0, 1.0]),
    )  # fmt: skip
    # What is sold of the first is twice what may be bought of the second, until the first is gone.
    with pytest.raises(InfeasibleError) as caught:
        optimise(problem)
    assert caught.value.alone
    assert caught.value.violations == pytest.approx({"net_min": 0.1, "adv_participation_max": 0.4}, abs=1e-6)
    full = LOOSE.model_copy(update={"net_max": 0.6, "gross_max": 0.6, "adv_participation_max": 0.1})
    for leaving in ([True, False], [True, True]):
        going = replace(problem, constraints=full, previous=np.full(2, 0.5), must_exit=np.array(leaving))
        going = replace(going, adv=np.ones(2))
        with pytest.raises(InfeasibleError) as caught:
            optimise(going)
        assert caught.value.violations == pytest.approx({"adv_participation_max": 0.1}, abs=1e-6)
        assert not isinstance(attempted(relaxed(going, {"adv_participation_max": 0.1}), "mean_variance"), OctopusError)


def test_sectors_that_clash_are_named_by_sector() -> None:
    held = np.where(np.arange(12) < 3, 0.2, 0.0)
    problem = limited(
        20, previous=held, tradable=np.arange(12) >= 3, constraints=LOOSE.model_copy(update={"sector_weight_max": 0.5})
    )
    with pytest.raises(InfeasibleError, match=r"sector_weight_max:a = 0\.5 by 0\.1"):
        optimise(problem)


def test_instruments_without_a_sector_share_one() -> None:
    limits = LOOSE.model_copy(update={"sector_weight_max": 0.3, "net_min": 0.2})
    with pytest.raises(InfeasibleError, match="sector_weight_max:unknown"):
        optimise(problem_of(returns_of(21), limits.model_copy(update={"net_min": 0.5})))
    assert optimise(problem_of(returns_of(21), limits), "equal_weight").weights.sum() == pytest.approx(0.3, abs=2e-5)


def test_without_volumes_nothing_is_traded_and_what_must_go_goes_as_far_as_volumes_allow() -> None:
    adv = np.full(12, 10.0)
    adv[0], adv[1] = np.nan, 1.0
    exits = np.zeros(12, dtype=bool)
    exits[1] = True
    held = np.full(12, 0.08)
    problem = limited(22, constraints=LOOSE.model_copy(update={"adv_participation_max": 0.05}), adv=adv, previous=held)
    weights = optimise(replace(problem, must_exit=exits)).weights
    assert weights[0] == 0.08
    assert weights[1] == pytest.approx(0.03)
    kept = reduced_to_limits(replace(problem, constraints=problem.constraints.model_copy(update={"gross_max": 0.5})))
    assert kept[0] == 0.08
    assert kept[1] == pytest.approx(0.08 * 0.5 / 0.96)
    with pytest.raises(MissingDataError, match="adv_participation_max needs the average daily value"):
        optimise(replace(problem, adv=None))


def test_what_a_method_cannot_do_it_says() -> None:
    returns = returns_of(23)
    with pytest.raises(SolverError, match="earn more than cash"):
        optimise(problem_of(returns, alpha=np.full(12, -0.001)), "maximum_sharpe")
    with pytest.raises(MissingDataError, match="needs at least 20 scenarios, there are 10"):
        optimise(problem_of(returns, scenarios=returns[:10]), "minimum_cvar")
    with pytest.raises(MissingDataError, match="needs scenarios"):
        optimise(problem_of(returns, scenarios=None), "minimum_cvar")
    flat = np.cov(returns.T)
    flat[3], flat[:, 3] = 0.0, 0.0
    for method in ALLOCATIONS[1:]:
        with pytest.raises(SolverError, match="S3 has no variance"):
            optimise(problem_of(returns, covariance=flat, names=[f"S{i}" for i in range(12)]), method)
    with pytest.raises(SolverError, match="quadratic is not available"):
        optimise(problem_of(returns, impact=np.ones(12), impact_power=2.0), "maximum_sharpe")
    with pytest.raises(SolverError, match="risk_budgets has 0"):
        optimise(problem_of(returns, risk_budgets=np.zeros(12)), "risk_parity")
    with pytest.raises(SolverError, match="scenarios has 1 values that are not finite"):
        optimise(problem_of(returns, scenarios=np.where(returns == returns[0, 0], np.nan, returns)), "minimum_cvar")


def test_every_name_in_the_configuration_is_a_method() -> None:
    assert set(METHODS) == set(NAMES)
    problem = limited(24)
    assert utility(problem, optimise(problem).weights) == optimise(problem).certificate.objective


@pytest.mark.parametrize("method", ["minimum_variance", "mean_variance"])
def test_solved_few_at_a_time_the_optimum_is_the_same(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    from octopus.portfolio import optimiser

    for maximum in (1.0, 0.02):
        problem = problem_of(returns_of(25, 220), LOOSE.model_copy(update={"name_weight_max": maximum}))
        monkeypatch.setattr(optimiser, "_MANY", 200)
        few = optimise(problem, method)
        monkeypatch.setattr(optimiser, "_MANY", 10_000)
        whole = optimise(problem, method)
        np.testing.assert_allclose(few.weights, whole.weights, atol=1e-6)
        assert max(few.certificate.dual_residual, few.certificate.gap) < 1e-6
        assert set(few.certificate.active) == set(whole.certificate.active)
