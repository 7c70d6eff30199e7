"""M5 ML Models: labels, walk-forward training, evaluation, review, and which model speaks for a session."""
