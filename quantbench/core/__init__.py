"""Quantizing one model: the same few steps for every command and for Python."""
