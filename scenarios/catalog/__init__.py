"""The ready-made scenarios: a TOML file each, and beside them the functions that make or load their tables."""
