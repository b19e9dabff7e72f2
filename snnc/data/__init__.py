"""Rows on their way into a network, and what can be told from them."""
