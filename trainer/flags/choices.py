"""Flags with a few fixed values: a row of help for each value. Imports nothing heavy."""

from __future__ import annotations

from convoy.table import Entry, Table

PRECISIONS = Table(
    "precision",
    {
        "auto": Entry("", "float32"),
        "float32": Entry("", "variables and layers"),
        "mixed_bfloat16": Entry("", "variables in float32, layers in bfloat16"),
        "mixed_float16": Entry("", "variables in float32, layers in float16, with a loss scale"),
        "float64": Entry("", "to compare runs exactly"),
    },
)
SCALINGS = Table(
    "kind of scaling",
    {
        "both": Entry("", "one after the other"),
        "weak": Entry("", "every device has the same share, and --batch_size is that of the fewest"),
        "strong": Entry("", "all devices share one --batch_size"),
    },
)
STRATEGIES = Table(
    "strategy",
    {
        "auto": Entry("", "what the environment and the devices say"),
        "one": Entry("", "one device"),
        "mirrored": Entry("", "all devices of this machine"),
        "multiworker": Entry(
            "",
            "the processes that TF_CONFIG names, or with --backend=jax JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and"
            " JAX_PROCESS_ID",
        ),
        "tpu": Entry("", "TensorFlow's TPUStrategy"),
    },
)
BACKENDS = Table(
    "backend",
    {
        "tensorflow": Entry("convoy.trainer.engines.tensorflow", "CPUs and GPUs, and TPUs where tensorflow-tpu runs"),
        "jax": Entry("convoy.trainer.engines.jax", "CPUs, GPUs and TPUs; needs the extra jax, jax-gpu or tpu"),
    },
)
XLA = Table(
    "compilation",
    {"auto": Entry("", "off"), "on": Entry("", "compiled"), "off": Entry("", "run operation by operation")},
)
KERNELS = Table(
    "generation",
    {
        "auto": Entry("", "the newest; a run that goes on keeps its own"),
        "1": Entry("", "that of runs which wrote down none"),
        "2": Entry("", "with fewer passes over memory on CPUs and GPUs"),
        "3": Entry("", "with Winograd's convolutions on CPUs"),
        "4": Entry("", "with ReLU in one pass with its neighbours, in bfloat16 on TensorFlow's CPUs"),
    },
)
ONEDNN = Table(
    "use of oneDNN",
    {
        "auto": Entry("", "as this kind of CPU is fastest; a run that goes on keeps its own"),
        "on": Entry("", "used"),
        "off": Entry("", "not used"),
        "tensorflow": Entry("", "left to TensorFlow, as in runs which wrote down nothing of it"),
    },
)
GRADIENT_DTYPES = Table(
    "type of gradients that travel",
    {
        "full": Entry("", "that of the loss"),
        "bfloat16": Entry("", "half the bytes of float32; every addition on the way is rounded to 8 bits"),
    },
)
ON_NAN = Table(
    "policy",
    {
        "stop": Entry("", "the run ends with exit code 70"),
        "skip": Entry("", "its update is left out, up to 10 times in a row"),
        "rollback": Entry(
            "", "the run goes back to the last checkpoint and passes over the examples since, up to 3 times"
        ),
    },
)
WEIGHT_DECAY_MODES = Table(
    "way to decay",
    {
        "decoupled": Entry("", "taken off the weights at each step", source="Loshchilov & Hutter 2019"),
        "l2": Entry("", "added to the gradient, as in the ResNet papers and PyTorch", source="He et al. 2016"),
    },
)
