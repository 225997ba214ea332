"""Adapters for other frameworks. Each module needs its framework, so import it by name."""
