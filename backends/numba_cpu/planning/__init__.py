"""Which kernel computes which layer, from value ranges and densities."""
