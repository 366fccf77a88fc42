"""What `convoy evaluate` can measure besides: a row for each flag. Imports nothing heavy.

A row's target takes a Measuring (measuring.py) and the flag's value, and returns an Outcome.
"""

from __future__ import annotations

from convoy.table import Entry, Table

ADDITIONS: Table[Entry] = Table(
    "measurement",
    {
        "top_k": Entry("convoy.trainer.evaluations.top_k:measure", "how often the class is among the K most probable"),
        "calibration": Entry(
            "convoy.trainer.evaluations.calibration:measure",
            "how far confidence is from accuracy, and the temperature that mends it, fitted on the examples that chose the best"
            " checkpoint",
            source="Guo et al. 2017",
        ),
        "tta": Entry(
            "convoy.trainer.evaluations.tta:measure", "the mean of the probabilities of several views of an image"
        ),
        "corruptions": Entry(
            "convoy.trainer.evaluations.corrupted:measure",
            "accuracy on corrupted images, at five severities",
            source="Hendrycks & Dietterich 2019",
        ),
        "ood": Entry(
            "convoy.trainer.evaluations.ood:measure",
            "how well images of another data set are told from the run's own",
            source="Hendrycks & Gimpel 2017; Liu et al. 2020",
        ),
    },
)

VIEWS: Table[Entry] = Table(
    "test-time augmentation",
    {
        "flip": Entry("convoy.trainer.evaluations.tta:flipped", "the image and its mirror image"),
        "shift": Entry(
            "convoy.trainer.evaluations.tta:shifted", "the image, and by a sixteenth of its side to each of four sides"
        ),
        "flip_shift": Entry(
            "convoy.trainer.evaluations.tta:flipped_and_shifted", "those of shift and their mirror images"
        ),
    },
)
