"""Quantised networks: integer operators, and float operations that round to levels."""
