"""What an answer rests on, and what each map of it is worth."""
