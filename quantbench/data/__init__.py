"""Data for a model: sources, the input they fit, their labels."""
