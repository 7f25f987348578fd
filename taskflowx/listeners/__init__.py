"""Listeners: objects that subscribe to the events of an engine for the duration of a `with` block."""
