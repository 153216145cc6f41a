"""What a run will cost and did: operations counted from shapes, times fitted on this machine, predictions, sweeps."""
