"""Nouns: data, parsing, printing. No decisions, no I/O; imports only the standard library, attrs and idna."""
