"""The record of a run in memory: the details of its atoms, and the search from a name to a value."""
