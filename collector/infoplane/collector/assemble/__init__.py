"""ASSEMBLE: merges what the ranks say about one unit into windows."""
