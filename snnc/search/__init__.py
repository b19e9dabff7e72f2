"""Searches over whole conversions, which measure, remember and go on after an interruption."""
