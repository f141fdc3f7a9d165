"""Files that hold moving pictures: containers, sampled times, frames as they are displayed, damage."""
