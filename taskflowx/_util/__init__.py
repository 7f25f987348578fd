"""Small helpers for several layers, not for users."""
