"""What an inspection means: one verdict a file."""
