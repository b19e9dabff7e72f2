"""Generators of vector code: loads, sums, products and the update of neurons."""
