"""Every change that the layout of a SQL store has seen, one a file."""
