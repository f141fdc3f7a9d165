"""From a file to faces: sampled frames, detected faces, followed people, aligned crops."""
