"""Many conversions of many networks, measured on many rows: what is asked for, done, kept and shown."""
