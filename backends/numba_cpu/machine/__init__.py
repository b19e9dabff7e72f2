"""The processor, its memory, and the cache of compiled kernels."""
