"""How long layers take on a device: timings out of logs and profiles, a model of them, intervals, verdicts."""
