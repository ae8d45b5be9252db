"""Images: lazily readable volumes, readers, writers, normalisation. No torch here."""
