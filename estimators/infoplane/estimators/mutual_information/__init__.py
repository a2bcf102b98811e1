"""Mutual information estimators; torch, batched over taps."""
