"""From probabilities to labels, and from labels to measurements and scores."""
