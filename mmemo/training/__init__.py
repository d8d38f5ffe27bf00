"""Metrics and intervals, objectives, the loop, evaluation, runs and their comparison."""
