"""One image file: what it is, and its pixels."""
