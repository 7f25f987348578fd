"""Small value types that the rest of the package stands on; each module can be used alone."""
