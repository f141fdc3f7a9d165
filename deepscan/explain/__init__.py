"""What a person can look at: heat maps, importance over time, timelines, annotated videos."""
