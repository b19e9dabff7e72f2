"""``python -m benchmarks.corpus``."""

from benchmarks.corpus.measure import main

main()
