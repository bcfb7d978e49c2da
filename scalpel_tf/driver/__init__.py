"""The whole method: one call that fits a trained network to its hardware."""
