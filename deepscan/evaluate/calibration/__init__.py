"""What is fitted on held-out data: temperature, uncertain band, limits of what can be judged, an ensemble's weights."""
