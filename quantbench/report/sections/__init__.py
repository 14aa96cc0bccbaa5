"""Sections of a report, one a file: each turns what run.json holds into blocks."""
