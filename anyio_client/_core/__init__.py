"""Decisions: sans-IO machines. Clock and randomness are arguments; nothing here waits, reads or writes."""
