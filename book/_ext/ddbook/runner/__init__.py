"""Runs: what one is, whether it stands, how it is made, listed and published."""
