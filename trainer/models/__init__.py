"""Models by name: names.py has a row for each. A model takes images as floats in [0, 1], [n, h, w, c], and returns logits."""
