"""Experiments on served models, and the simulated inference server that measurements are checked against."""
