"""What a model writes, told apart while it writes: thoughts, text and calls of tools, by its family's marks. Pure."""
