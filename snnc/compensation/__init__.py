"""Fitting a layer to the spikes that arrive at it."""
