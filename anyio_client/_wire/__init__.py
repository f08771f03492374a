"""Bytes: sans-IO codecs. The only importers of h11 and h2; nothing here waits, reads or writes."""
