"""From labels to weights: targets, augmentation, losses."""
