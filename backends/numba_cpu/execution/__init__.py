"""A plan turned into records and buffers, and run."""
