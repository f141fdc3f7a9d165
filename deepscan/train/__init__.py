"""Training data, augmentation and self-blending."""
