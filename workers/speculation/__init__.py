"""Speculative decoding: who proposes tokens, how many are worth verifying, what was accepted. Pure; engines use it."""
