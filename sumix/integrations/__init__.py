"""Adapters to other people's frameworks: each module needs its framework, and is imported by whoever uses it."""
