"""Decoding in a process of its own, whose crash, hang or lies cost one file: the calling side and the other."""
