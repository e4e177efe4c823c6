"""Callables that receive events."""
