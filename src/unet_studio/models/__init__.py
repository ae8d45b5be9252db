"""Models: cards, files, networks, where weights come from, and measuring a network."""
