"""Entropies of activations and of token distributions."""
