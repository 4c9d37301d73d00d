"""Drafts at run time: those that a target is assigned, and a draft worker's open door."""
