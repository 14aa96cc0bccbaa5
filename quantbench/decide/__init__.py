"""From one model to a decision: models compared, what each layer costs, tuning, sweeps, what a CI run fails on."""
