"""Small value types that the rest of the package builds on; each module can be used alone."""
