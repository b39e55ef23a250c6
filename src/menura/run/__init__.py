"""Training as a whole: registry, presets, the loop, and the folders it fills."""
