"""``python -m benchmarks.speed``."""

from benchmarks.speed.measure import main

main()
