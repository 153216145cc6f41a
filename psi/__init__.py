"""How the parties find the entities they share (private set intersection)."""
