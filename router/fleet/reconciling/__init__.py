"""From the planner's steps to commands, and from what workers say to what the planner sees."""
