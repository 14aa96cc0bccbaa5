"""The inspection as one HTML page: no network, no outside files."""
