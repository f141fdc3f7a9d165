"""Networks that turn crops into features, one file a family, and the weights that others publish for them."""
