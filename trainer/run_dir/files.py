"""The names of what stands in a run directory."""

from convoy.outside import Name

PREDICTIONS, PICTURES, REPORT = Name("predictions.npz"), Name("pictures.npz"), Name("report.html")
CONFIG, FLAGS, RESULT, STATUS = Name("config.json"), Name("config.flags"), Name("result.json"), Name("status.json")
IDENTITY, DATASET, PRETRAINED = Name("identity.json"), Name("dataset.json"), Name("pretrained.json")
METRICS, EVENTS, BAD_IMAGES = Name("metrics.jsonl"), Name("events.jsonl"), Name("bad_images.jsonl")
CURVES, TENSORBOARD, CHECKPOINTS = Name("curves.png"), Name("tensorboard"), Name("checkpoints")
# Of a search for a learning rate, which has a directory of its own.
RATES, RATE_CURVE = Name("find_lr.json"), Name("find_lr.png")
