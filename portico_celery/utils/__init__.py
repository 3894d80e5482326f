"""Portico's name for the place of its logging."""
