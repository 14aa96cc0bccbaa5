"""Calibration: images through the network, histograms of |x|, thresholds, ranges."""
