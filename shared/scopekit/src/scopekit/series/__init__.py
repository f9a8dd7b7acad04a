"""Time series: frame by frame, resumable, on one machine or several."""
