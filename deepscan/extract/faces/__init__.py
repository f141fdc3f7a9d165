"""Face detection with MTCNN: the cascade and its networks, boxes, and pictures that have to be turned first."""
