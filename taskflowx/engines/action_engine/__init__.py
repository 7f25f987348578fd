"""The names under which callers of OpenStack TaskFlow know the engines."""
