"""Helpers that callers of TaskFlow import."""
