"""Drawn faces and synthesised voices whose truth is known."""
