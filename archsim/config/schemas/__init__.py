"""One schema a file: the shape of each kind of description."""
