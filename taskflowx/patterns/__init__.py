"""The patterns that combine atoms and flows: linear, unordered, graph."""
