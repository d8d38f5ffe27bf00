"""The three systems, the baselines, and what they share."""
