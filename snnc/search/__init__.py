"""Searches over whole conversions, which store their measurements and can be continued later."""
