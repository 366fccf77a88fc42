"""What `convoy evaluate` measures besides accuracy and loss: a module each, and a row of names.py."""
