"""Listeners: objects that are told what happens in an engine, for as long as a `with` block runs."""
