"""What to do about a package that can not be used, for the end of a message."""

# The package contradicts itself, or breaks the format.
MENDED = "Get another version of the package, or tell its makers."
# The package is in order, and needs what is not done here.
ANOTHER = "Choose another model."
