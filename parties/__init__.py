"""What one organisation has and does alone: its table, its features, its half of the model."""
