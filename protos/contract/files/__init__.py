"""A model's files: which they are, what they are by their content, and the hashes that tell."""
