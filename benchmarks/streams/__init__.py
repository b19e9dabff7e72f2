"""Networks over time on recordings of an event camera."""
