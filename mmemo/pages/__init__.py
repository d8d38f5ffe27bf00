"""Figures, and pages that need no network."""
