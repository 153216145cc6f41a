"""How good a model is: metrics, lists, and the baselines that whoever has all tables can train."""
