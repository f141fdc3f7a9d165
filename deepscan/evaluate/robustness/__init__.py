"""The same metrics under corruption, real codecs and attacks."""
