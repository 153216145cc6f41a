"""Ready-made multi-party set-ups, the runner, the baselines and the command line."""
