"""Files that hold pictures, and which kinds of files are read at all."""
