"""The napari window: the only room that knows napari and Qt. Importing it imports neither."""
