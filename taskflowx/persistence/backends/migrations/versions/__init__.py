"""The changes of the layout of a SQL store, one per file."""
