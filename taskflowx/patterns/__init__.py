"""The patterns that join atoms and flows: linear, unordered, graph."""
