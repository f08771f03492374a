"""Leaves: one file for each optional dependency. Nothing else of the library imports them."""
