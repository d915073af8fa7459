"""The frames of one job: read from its input segment by segment, kept when they are upscaled."""
