"""Keeping an answer to a grammar: a mask over the vocabulary for each token, by llguidance."""
