"""M8 Portfolio Optimizer: from scores to target weights, and from weights to orders."""
