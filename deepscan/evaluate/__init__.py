"""What a detector is measured with: scores of a data set, metrics with intervals, comparison, plots and tables."""
