"""Sweeps: many runs of one training, kept one by one, and the ways to look at them."""
