"""From an image and a model to probabilities: plan, tiles, prediction."""
