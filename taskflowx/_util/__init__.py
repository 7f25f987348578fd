"""Small things that several layers need and no user does."""
