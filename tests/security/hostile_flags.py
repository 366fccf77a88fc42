"""Values of flags of `convoy train` with which no step can be computed."""

from __future__ import annotations

MANY = "9" * 5000
IMPOSSIBLE = {
    "batch_size": [str(2**63), str(2**25)],
    "batch_ramp": ["128:1ep", "0:1ep", f"{MANY}:1ep", f"1:{MANY}ep", "1:\uff11ep", "\uff11:1ep", f"{2**24 + 1}:1st"],
    "accumulate": [str(2**31), "129"],
    "keep": [str(2**63)],
    "steps_per_loop": [str(2**31)],
    "restarts": [str(2**40)],
    "seed": [str(2**31), str(-(2**31) - 1)],
    "learning_rate": ["1e39", "1e-46", "-0.0"],
    "weight_decay": ["1e39", "1e-46"],
    "clip_norm": ["1e39", "1e-46", "1e38"],  # 1 / 1e38 is 0 as float32, and so were all gradients
    "ema": ["0.99999999", "1e-46"],
    "label_smoothing": ["0.99999999"],
    "stochastic_depth": ["0.99999999"],
    "hang_timeout": ["1e39", "1e400"],
    "image_size": ["4097"],
    "cache_bytes": [str(2**63)],
    "max_bad_fraction": ["nan"],
    "duration": [f"{MANY}ep", f"{MANY}st", f"{2**31}st", "\uff11ep", f"0.{'0' * 400}1ep", "0.0ep"],
    "warmup": [f"{MANY}st"],
    "eval_every": [f"{10**12}ep"],
    "checkpoint_every": [f"{2**63}st"],
    "devices": ["cpu:1000000000", "cpu:\uff12", f"gpu:{MANY}"],
    "batchnorm": ["ghost:99999999999999", f"ghost:{MANY}", "ghost:\u0663"],
    "scale_lr": ["linear:0", f"linear:{MANY}", "sqrt:\uff11", f"adam:{MANY}", "goyal:1", "lars"],
    "schedule": [
        "polynomial:1e39",
        "polynomial:1e-46",
        "polynomial:2,1e39",
        "polynomial:2,9",
        "wsd:1e-46",
        "rising:0.99999999",
        "step:0.\uff15",
        f"step:{'0' * 5000}",
    ],
    "loss": ["focal:1e39", "logit_adjusted:1e-46", "focal:\uff12"],
    "augment": [
        "rotate:1e400",
        "rotate:nan",
        "randaugment:99999",
        f"randaugment:{MANY}",
        "shift:1e-46",
        "mixup:\u0663",
    ],
    "balance": ["effective:0.\uff19"],
    "eval_split": [f"hash:.{'0' * 5000}1"],
    "dataset": [
        *("synthetic:99999x1x1:1:1", f"synthetic:1x1x{MANY}:1:1", "synthetic:8x8x1:2:9999999999"),
        *("synthetic:8x8x1:1\uff10:5", "synthetic:0x8x1:2:5"),
    ],
}
