"""Models of single walk-forward folds in the warehouse, made on any machine before a review.

Belongs here: keeping and finding their bytes. Does not: fitting and reading them (octopus/models).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from resources.warehouse.store import Warehouse


@dataclass(frozen=True)
class FoldModels:
    """The table models.fold_models.

    Attributes:
        mark: fingerprint of the training set and of the models' settings: of nothing else are models found.
    """

    warehouse: Warehouse
    mark: str

    def keep(self, fold: int, models: Mapping[str, bytes]) -> None:
        """Store the models of one fold, by name; what is there stays."""
        with self.warehouse.connect() as connection, connection.cursor() as cursor:
            cursor.executemany(
                "insert into models.fold_models (fingerprint, model, fold, content) values (%s, %s, %s, %s) "
                "on conflict do nothing",
                [(self.mark, name, fold, content) for name, content in models.items()],
            )

    def of(self, model: str) -> dict[int, bytes]:
        """Those that are there of one model, by fold."""
        rows = self.warehouse.rows(
            "select fold, content from models.fold_models where fingerprint = %s and model = %s", [self.mark, model]
        )
        return {row["fold"]: bytes(row["content"]) for row in rows}
