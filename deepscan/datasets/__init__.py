"""Corpora for training and measuring: read, preprocessed into stores of crops, divided, and opened again as samples."""
