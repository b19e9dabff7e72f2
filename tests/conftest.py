"""What holds for every test: how hypothesis searches."""

from __future__ import annotations

from hypothesis import settings

# The same examples on every machine, and no failure because a busy machine was slow.
# `pytest --hypothesis-profile=explore` looks further, with new examples on every run.
settings.register_profile("fixed", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("fixed")
