"""Properties of keys, entries and rounding, over every schema of the catalogue."""
