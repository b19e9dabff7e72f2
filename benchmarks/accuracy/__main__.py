"""``python -m benchmarks.accuracy``."""

from benchmarks.accuracy.measure import main

main()
