"""The record of runs: what is kept of a flow and of its atoms, and where."""
