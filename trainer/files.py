"""The names of what stands in a run directory."""

CONFIG, FLAGS, RESULT, STATUS = "config.json", "config.flags", "result.json", "status.json"
METRICS, EVENTS, BAD_IMAGES = "metrics.jsonl", "events.jsonl", "bad_images.jsonl"
CURVES, TENSORBOARD, CHECKPOINTS = "curves.png", "tensorboard", "checkpoints"
