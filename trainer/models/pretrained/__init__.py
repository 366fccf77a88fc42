"""--pretrained: weights that somebody has trained, in the place of first ones.

sources.py says what a flag names, settle.py which network and image size go with it; neither imports anything heavy. loading.py
reads the file (safetensors.py, hdf5.py, archive.py), gives each tensor to a variable by name (torch_names.py, keras_names.py),
keeps the rows of the head whose classes the data set has (head.py), and checks the result by its values (values.py, probe.py).
"""
