"""Tuning: a reward into the weights of a policy."""
