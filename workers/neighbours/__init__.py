"""Workers of one machine: they measure in turn and share its cores and memory by agreement."""
