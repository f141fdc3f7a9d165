"""Videos, read in this process: containers, times of frames, the choice of frames, their display, damage."""
