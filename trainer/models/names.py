"""The models: a row for each name that --model may be beside package.module:function. Imports nothing heavy.

A row's target takes (image_shape, num_classes) and the flags in its `options`, and returns a keras.Model of logits.
"""

from __future__ import annotations

from convoy.table import Entry, Table

MODELS: Table[Entry] = Table(
    "model",
    {
        "article_cnn": Entry(
            "convoy.trainer.models.article_cnn:article_cnn",
            "the tutorial's network, one convolution and two dense layers",
        ),
        "resnet18": Entry(
            "convoy.trainer.models.resnet:resnet18",
            "18 layers, basic blocks",
            source="He et al. 2016",
            options=("stochastic_depth",),
        ),
        "resnet50": Entry(
            "convoy.trainer.models.resnet:resnet50",
            "50 layers, bottleneck blocks, version 1.5",
            source="He et al. 2016, Goyal et al. 2017",
            options=("stochastic_depth",),
        ),
    },
)
