"""What a file says of itself: containers, cameras, editing programs, C2PA. It never changes a verdict."""
