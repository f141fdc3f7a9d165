"""What a file says of itself: container, tags, traces of editing, C2PA. It never changes a verdict."""
