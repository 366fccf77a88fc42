"""Changes of training images, drawn by position: recipe.py says what, augmenter.py does it."""
