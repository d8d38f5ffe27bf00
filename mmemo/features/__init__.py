"""Frozen encoders, what they see and hear of each clip, the cache, windows and batches."""
