"""Deciding: which requests are let in, where each goes, what is claimed for it, and what to do when it fails. Pure."""
