"""Compiled functions: currents, stages, counting, and the team of threads that runs them."""
