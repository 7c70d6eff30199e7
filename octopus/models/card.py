"""The model card: what a reviewer reads before moving the champion's alias, and what the data were.

Belongs here: writing both down. Does not: scores and gates (evaluation.py, gates.py), storing (resources/registry.py).

Source of the card's form: Mitchell et al., Model Cards for Model Reporting (2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np

from octopus.core.ids import fingerprint
from octopus.core.types import FloatArray
from octopus.models.config import ModelConfig
from octopus.models.evaluation import Scores
from octopus.models.gates import Review
from octopus.models.splits import Fold
from octopus.models.training import TrainingSet

_MOST_IMPORTANT = 12


@dataclass(frozen=True, eq=False)
class Subject:
    """Whom the card is about.

    Attributes:
        estimator: name of the model. settings: of the final one. source: of the market data.
        importance: share of each feature, shape (F,); None: the model cannot say.
        cautions: what a reader should mind, one sentence each.
    """

    estimator: str
    settings: Mapping[str, Any]
    source: str
    config: ModelConfig
    training: TrainingSet
    folds: Sequence[Fold]
    scores: Scores
    review: Review
    importance: FloatArray | None
    cautions: Sequence[str] = ()


def data_record(training: TrainingSet, source: str, as_of: date) -> dict[str, Any]:
    """What a model learnt from, so that two trainings can be told apart, and where they differ.

    Returns:
        ``as_of``, the end of the training period, the span, and ``rows_sha256``: year → hash of its features, labels
        and their places (first 32 hex digits).
    """
    sessions = training.panel.sessions
    years = sessions.astype("datetime64[Y]").astype(int) + 1970
    edges = [*np.searchsorted(years, np.unique(years)).tolist(), len(years)]
    hashes = {
        str(years[start]): fingerprint(
            training.panel.symbols, sessions[start:stop], training.features[start:stop], training.labels[start:stop]
        )
        for start, stop in pairwise(edges)
    }
    return {
        "as_of": as_of, "source": source, "first_session": sessions[0].item(), "last_session": sessions[-1].item(),
        "instruments": list(training.panel.symbols), "features": list(training.names), "labelled": training.labelled,
        "fingerprint": training.fingerprint, "rows_sha256": hashes,
    }  # fmt: skip


def model_card(of: Subject) -> str:
    """The card, as Markdown."""
    return "\n".join([*_what(of), *_gates(of), *_skill(of), *_folds(of), *_features(of), *_cautions(of), ""])


def _what(of: Subject) -> list[str]:
    sessions, config = of.training.panel.sessions, of.config
    searched = f"; settings searched with {config.search.trials} trials a search" if config.search.trials else ""
    return [
        f"# {config.registered_name} · {of.estimator}",
        "",
        f"**Predicts** {_label(config)}, for ranking instruments of one session against each other.",
        "",
        f"**Learnt from** source {of.source}, {len(of.training.panel.symbols)} instruments, {sessions[0]} to "
        f"{sessions[-1]}, {of.training.labelled:,} labelled rows, {len(of.training.names)} features; fingerprint "
        f"`{of.training.fingerprint}`, by year in data.json.",
        "",
        f"**Validated** walk-forward ({config.window}), blocks of {config.test_sessions} sessions, purged by the "
        f"label, embargo {config.embargo}{searched}.",
        "",
        f"**Settings** {', '.join(f'{name} {value}' for name, value in of.settings.items()) or 'none'}.",
    ]


def _label(config: ModelConfig) -> str:
    span = f"{config.horizon_sessions} sessions from the close of T+1"
    if config.label.kind == "triple_barrier":
        return f"which barrier is touched first within {span} ({_barriers(config)})"
    if config.label.kind == "meta":
        return f"whether following {config.label.primary} for up to {span} pays ({_barriers(config)})"
    forms = {
        "standardised": "excess return in the members' standard deviation", "excess": "excess return over the members",
        "rank": "rank of the return among the members", "raw": "return",
    }  # fmt: skip
    return f"the {forms[config.label.form]} over {span}"


def _barriers(config: ModelConfig) -> str:
    return f"{config.label.profit:g}σ up, {config.label.stop:g}σ down"


def _gates(of: Subject) -> list[str]:
    verdict = "passed every gate" if of.review.passed else "**failed** and may not speak"
    return [
        "", "## Gates", "", f"This model {verdict}.", "", "| gate | | why |", "|---|---|---|",
        *(f"| {gate.name} | {'passed' if gate.passed else '**FAILED**'} | {gate.reason} |" for gate in of.review.gates),
    ]  # fmt: skip


def _skill(of: Subject) -> list[str]:
    scores = of.scores
    return [
        "", "## Out of sample", "",
        f"Over {scores.sessions:,} sessions: IC {scores.ic:.4f}, rank IC {scores.rank_ic:.4f} (t {scores.t_stat:.2f}), "
        f"ICIR {scores.icir:.3f}, hit rate {scores.hit_rate:.1%}.",
        "",
        f"Spread of the top fifth less the bottom one: Sharpe {scores.spread_sharpe:.2f} before costs, "
        f"{scores.net_spread_annual:.2%} a year after them; {scores.trials} trials ({scores.trials_clustered} "
        f"different), probability that it is no luck {scores.deflated_sharpe:.3f}.",
        "",
        f"Calibration: outcome per unit of prediction {scores.calibration_beta:.2f} (1 is calibrated, less is bold); "
        f"mean outcome by fifth of the prediction {', '.join(f'{value:+.4f}' for value in scores.calibration)}.",
    ]  # fmt: skip


def _folds(of: Subject) -> list[str]:
    sessions, scores = of.training.panel.sessions, of.scores
    columns = zip(
        of.folds, scores.fold_ic, scores.fold_rank_ic, scores.fold_icir, scores.fold_hit_rate,
        scores.fold_calibration_beta, strict=True,
    )  # fmt: skip
    return [
        "", "## Test blocks", "", "| from | to | IC | rank IC | ICIR | hit rate | calibration |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {sessions[fold.test_start]} | {sessions[fold.test_stop - 1]} | {ic:.4f} | {rank:.4f} | {icir:.3f} "
            f"| {hit:.1%} | {beta:.2f} |"
            for fold, ic, rank, icir, hit, beta in columns
        ),
    ]  # fmt: skip


def _features(of: Subject) -> list[str]:
    if of.importance is None:
        return ["", "## Features", "", "This model cannot say what its features add."]
    order = np.argsort(of.importance)[::-1][:_MOST_IMPORTANT]
    return [
        "", "## Features", "", "Mean size of what each adds to a prediction (SHAP; exact for linear models):", "",
        *(f"1. {of.training.names[index]} {of.importance[index]:.1%}" for index in order),
    ]  # fmt: skip


def _cautions(of: Subject) -> list[str]:
    return ["", "## Mind", "", *(f"- {caution}" for caution in of.cautions)] if of.cautions else []
