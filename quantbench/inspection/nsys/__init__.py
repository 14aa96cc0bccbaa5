"""What Nsight Systems measured: its statistics as CSV or text and its SQLite export, joined with layers."""
