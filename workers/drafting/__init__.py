"""Drafts across processes: the target's end of the line and the draft worker's."""
