"""The published constants of every corruption: five severities, from 1 to 5, for large pictures and for small ones.

They are those of github.com/hendrycks/robustness, ImageNet-C/create_c/make_imagenet_c.py and make_cifar_c.py, which define
the two data sets of Hendrycks and Dietterich 2019. Lengths are pixels, those of elastic_transform shares of the smaller side.
"""

from __future__ import annotations

from collections.abc import Mapping

from convoy.data.corruptions.names import SEVERITIES

Constants = Mapping[str, tuple[tuple[float, ...], ...]]

MAX_SMALL_SIDE = 64  # a picture with a smaller side up to it takes CIFAR-10-C's constants
_SIDE = 244 / 224  # the authors write 244 where their pictures have 224, and left it so

IMAGENET_C: Constants = {
    "gaussian_noise": ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)),  # sigma
    "shot_noise": ((60,), (25,), (12,), (5,), (3,)),  # photons of white
    "impulse_noise": ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)),  # share of the values
    "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),  # radius, sigma of the disc's edge
    "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),  # sigma, reach, rounds
    "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),  # radius, sigma
    "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),  # end and step of the factors
    "snow": (  # mean, sigma, zoom, threshold, radius, sigma of the trail, share of the picture that is not whitened
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),  # amount, decay of its roughness
    "brightness": ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),  # added to V
    "contrast": ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),  # factor
    "elastic_transform": (  # magnitude and sigma of the distortion, largest shift of the affine map's points
        (_SIDE * 2, _SIDE * 0.7, _SIDE * 0.1),
        (_SIDE * 2, _SIDE * 0.08, _SIDE * 0.2),
        (_SIDE * 0.05, _SIDE * 0.01, _SIDE * 0.02),
        (_SIDE * 0.07, _SIDE * 0.01, _SIDE * 0.02),
        (_SIDE * 0.12, _SIDE * 0.01, _SIDE * 0.02),
    ),
    "pixelate": ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)),  # share of the side
    "jpeg_compression": ((25,), (18,), (15,), (10,), (7,)),  # quality
}

CIFAR_10_C: Constants = {
    "gaussian_noise": ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,)),
    "shot_noise": ((500,), (250,), (100,), (75,), (50,)),
    "impulse_noise": ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "zoom_blur": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "brightness": ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)),
    "contrast": ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),
    "elastic_transform": ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    "pixelate": ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)),
    "jpeg_compression": ((80,), (65,), (58,), (50,), (40,)),
}


def constants(name: str, severity: int, smaller_side: int) -> tuple[float, ...]:
    """What the corruption's function takes after pixels and generator, for pictures with this smaller side."""
    table = CIFAR_10_C if smaller_side <= MAX_SMALL_SIDE else IMAGENET_C
    return table[name][SEVERITIES.index(severity)]
