"""Faces in frames: the MTCNN cascade, its networks, boxes, and frames that have to be turned first."""
