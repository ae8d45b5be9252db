"""Click an object to have it: prompts in, the mask of one object in its box out."""
