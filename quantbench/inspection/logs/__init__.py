"""Build logs: prefixes, lines, optimizer passes."""
