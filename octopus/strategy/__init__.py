"""M4 Strategy: features of a panel, signals on features, and the ensemble that blends them."""
