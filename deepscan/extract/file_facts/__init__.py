"""What a file says of itself: container, tags, traces of editing, C2PA. Nothing is decoded; it never changes a verdict."""
