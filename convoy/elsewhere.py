"""What other trainers call a flag, and how Convoy has it written: `--epochs=30` is `--duration=30ep`.

A name may have several rows, since verbs have different flags for it: the first whose flag the verb has is shown.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Collection

_NUMBER = re.compile(r"[0-9]*[.]?[0-9]+(e-?[0-9]+)?")
_MAX_CHARACTERS = 200  # of a value that is repeated


@dataclasses.dataclass(frozen=True)
class Elsewhere:
    """What stands for a flag of others.

    Args:
      names: what others call it, with blanks between, and underscores where a person may write dashes.
      form: the flag as a person writes it, {} for the value; or a sentence, where none is needed.
      example: a value. A person's own takes its place: a number that of a number, any text that of a word in capitals.
      why: what to know beside it.
    """

    names: str
    form: str
    example: str = ""
    why: str = ""

    @property
    def flag(self) -> str:
        """The name of the flag; "" where none is needed."""
        match = re.match(r"--([a-z_0-9]+)", self.form)
        return match[1] if match else ""

    def written(self, value: str) -> str:
        """How a person writes it, with the value that they gave the other one, if it can be taken over."""
        number = _NUMBER.fullmatch(value) and float(value) > 0
        fits = number if _NUMBER.fullmatch(self.example) else bool(value) and self.example.isupper()
        own = shlex.quote(value) if fits and len(value) <= _MAX_CHARACTERS else self.example
        return self.form.format(own) + (f" ({self.why})" if self.why else "")


ROWS = (
    # How long, how much at once, how fast.
    Elsewhere(
        "epochs epoch num_epochs n_epochs nepochs max_epochs num_train_epochs total_epochs", "--duration={}ep", "10"
    ),
    Elsewhere("steps max_steps num_steps n_steps train_steps iterations iters max_iter", "--duration={}st", "600"),
    Elsewhere("time max_time minutes time_limit", "--duration={}min", "30", "--max_minutes bounds a run in all"),
    Elsewhere(
        "batch bs b batch_sz train_batch_size global_batch_size per_device_train_batch_size",
        "--batch_size={}",
        "128",
        "over all devices together",
    ),
    Elsewhere("rampup_batch_size batch_size_warmup batch_size_schedule", "--batch_ramp=128:5ep,256:10ep"),
    Elsewhere("lr lr0 base_lr max_lr init_lr initial_lr", "--learning_rate={}", "0.001"),
    Elsewhere("lr_find lr_finder auto_lr_find", "--find_lr"),
    Elsewhere("opt optim", "--optimizer=adamw"),
    Elsewhere("beta2 adam_beta2 opt_betas", "--beta_2={}", "0.999"),
    Elsewhere("wd l2", "--weight_decay={}", "0.05", "decoupled"),
    Elsewhere("sched scheduler lr_scheduler lr_scheduler_type lr_schedule cos_lr cosine", "--schedule=cosine"),
    Elsewhere("warmup_epochs", "--warmup={}ep", "5"),
    Elsewhere("warmup_steps num_warmup_steps warmup_iters", "--warmup={}st", "100"),
    Elsewhere(
        "early_stopping early_stop early_stopping_patience", "--patience={}", "5", "evaluations no better than the best"
    ),
    Elsewhere("clip_grad grad_clip gradient_clip_val max_grad_norm clipnorm global_clipnorm", "--clip_norm={}", "1"),
    Elsewhere("agc adaptive_clipping adaptive_grad_clip", "--clip_agc={}", "0.01"),
    Elsewhere("lookahead_k sync_period", "--lookahead={}", "5"),
    Elsewhere(
        "accum grad_accum accum_iter grad_accum_steps gradient_accumulation_steps accumulate_grad_batches",
        "--accumulate={}",
        "4",
        "parts of --batch_size",
    ),
    Elsewhere("smoothing", "--label_smoothing={}", "0.1"),
    Elsewhere("model_ema ema_decay model_ema_decay", "--ema=0.999"),
    Elsewhere("drop_path drop_path_rate survival_prob", "--stochastic_depth={}", "0.1"),
    Elsewhere("class_weight class_weights weighted_loss", "--loss=balanced_softmax", why="or --balance"),
    # The network.
    Elsewhere(
        "arch architecture a net network backbone model_name encoder",
        "--model=resnet18",
        why="`convoy models` lists all",
    ),
    Elsewhere(
        "weights init_weights pretrained_weights init_checkpoint initial_checkpoint load finetune",
        "--pretrained=imagenet",
        why="or a file or a run",
    ),
    Elsewhere(
        "freeze frozen freeze_backbone freeze_layers freeze_epochs",
        "--unfreeze={}ep",
        "3",
        "till then the head alone trains",
    ),
    Elsewhere("llrd lr_layer_decay layerwise_lr_decay", "--layer_decay={}", "0.75"),
    Elsewhere("num_classes classes nc n_classes", "leave it out: the data set says it"),
    # The data.
    Elsewhere(
        "data data_path dataset_path dataset_dir img_dir image_dir input_dir root", "--dataset=folder:{}", "PATH"
    ),
    Elsewhere("train_dir train_data train_folder", "--dataset=folder:PATH", why="the folder above train/"),
    Elsewhere("imgsz img_size img input_size resolution size crop crop_size", "--image_size={}", "224"),
    Elsewhere("val_split validation_split val_fraction val_ratio valid_pct test_size", "--eval_split=hash:{}", "0.1"),
    Elsewhere("aug augmentation augmentations transforms data_augmentation", "--augment=photo"),
    Elsewhere("aa auto_augment autoaugment randaug rand_augment randaugment", "--augment=photo+randaugment:2:9"),
    Elsewhere("mixup mixup_alpha", "--augment=photo+mixup"),
    Elsewhere("cutmix cutmix_alpha", "--augment=photo+cutmix"),
    Elsewhere("reprob random_erase random_erasing cutout", "--augment=photo+erase"),
    Elsewhere("workers num_workers j dataloader_num_workers nworkers", "leave it out: the input takes all CPU cores"),
    Elsewhere("shuffle", "leave it out: each epoch has an order of its own, by --seed"),
    # Where a run lives.
    Elsewhere(
        "output output_dir out out_dir outdir save_dir project model_dir logdir log_dir logging_dir default_root_dir work_dir"
        " workdir",
        "--run_dir={}",
        "DIR",
    ),
    Elsewhere(
        "report_to logger loggers tracker log_wandb wandb mlflow trackio", "--log_to=wandb", why="or mlflow, trackio"
    ),
    Elsewhere("checkpoint_dir ckpt_dir experiment exp_name name", "--run_dir=runs/one"),
    Elsewhere(
        "resume resume_from resume_from_checkpoint auto_resume restore continue ckpt ckpt_path checkpoint_path",
        "--run_dir=DIR",
        why="a run that is there is continued",
    ),
    Elsewhere("weights model_path checkpoint run", "--run_dir=DIR"),
    Elsewhere("val_every eval_interval eval_freq eval_steps eval_strategy validation_freq", "--eval_every=1ep"),
    Elsewhere("save_every save_freq save_steps save_interval save_period save_strategy", "--checkpoint_every=1ep"),
    Elsewhere("save_total_limit keep_checkpoint_max max_to_keep save_top_k", "--keep={}", "2"),
    Elsewhere("config cfg config_file yaml", "--flagfile={}", "FILE", "a flag a line"),
    # The machine.
    Elsewhere("gpus gpu num_gpus n_gpus ngpus nproc_per_node num_devices", "--devices=gpu:{}", "2"),
    Elsewhere("device gpu_ids gpu_id cuda", "--devices=gpu:1", why="CUDA_VISIBLE_DEVICES chooses among several"),
    Elsewhere("no_cuda cpu use_cpu", "--devices=cpu:1"),
    Elsewhere("tpu tpu_cores num_tpus", "--devices=tpu:{}", "8", "with --backend=jax"),
    Elsewhere("amp bf16 half mixed_precision dtype", "--precision=mixed_bfloat16"),
    Elsewhere("fp16 float16", "--precision=mixed_float16"),
    Elsewhere("grad_checkpointing gradient_checkpointing activation_checkpointing", "--remat"),
    Elsewhere("gns log_gradient_noise_scale gradient_noise_scale", "--noise_scale"),
    Elsewhere("compile torchcompile jit jit_compile", "--xla=on"),
    Elsewhere("framework", "--backend=jax"),
    Elsewhere("random_seed manual_seed rng_seed", "--seed={}", "0"),
    Elsewhere("top_k topk k", "--top={}", "5"),
)


def find(name: str, flags: Collection[str]) -> Elsewhere | None:
    """The row for a name of others, of a verb that has these flags."""
    rows = (row for row in ROWS if name.replace("-", "_").lower() in row.names.split())
    return next((row for row in rows if not row.flag or row.flag in (*flags, "flagfile")), None)


def hint(name: str, value: str, flags: Collection[str]) -> str:
    """How a verb with these flags has a flag written that it does not have: `write ...`; "" if nothing is known of it.

    Args:
      name: the flag, without its leading dashes.
      value: what a person gave it; "" for nothing.
    """
    plain = name.replace("-", "_").lower()
    if plain in flags:
        return f"write --{plain}={shlex.quote(value)}" if 0 < len(value) <= _MAX_CHARACTERS else f"write --{plain}"
    row = find(name, flags)
    return "" if row is None else f"write {row.written(value)}" if row.flag else row.form
