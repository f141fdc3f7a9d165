"""Crops on disk.

What belongs here: the format of a video's file (``archive``, ``schema``, ``store``), of packs of pictures (``packs``),
the tables of what became of every video (``manifest``), and the journal that a run goes on from (``journal``).
"""
