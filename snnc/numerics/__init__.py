"""Thresholds, integers, regression and divergences: arithmetic on arrays, without a network's structure."""
