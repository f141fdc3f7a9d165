"""Decoding in a process of its own, whose crash or hang costs one file."""
