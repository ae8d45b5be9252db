"""The same recipe over many images: find them, run each once, go on after a kill."""
