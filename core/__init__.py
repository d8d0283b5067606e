"""The nouns every room shares. No input, no output, nothing of ours is imported here."""
