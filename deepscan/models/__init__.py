"""Networks: backbones, temporal heads, checkpoints and test-time augmentation."""
