"""Common corruptions of images, after ImageNet-C and CIFAR-10-C: names.py lists them, corrupt.py applies them.

Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations" (arXiv
1903.12261). The code is our own; docs/corruptions.md says what differs.
"""
