"""Saturation experiments: trials of a deployment, written down as they end, and what they come to."""
