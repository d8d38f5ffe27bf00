"""Films, sounds, pictures and faces, read from disk."""
