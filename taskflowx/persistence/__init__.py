"""The persistence layer: the records of flows and atoms, and the stores that keep them."""
