"""Folding: scales of channels moved from activations into weights, so that both quantize better."""
