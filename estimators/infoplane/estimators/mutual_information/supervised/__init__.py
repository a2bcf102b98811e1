"""A trained estimator of mutual information, with quantiles: input, network, weights, estimate."""
