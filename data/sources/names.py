"""The sources of examples: a row for each name that --dataset may begin with. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import pkgutil

from convoy import exits
from convoy.options import impossible, shortened
from convoy.table import ALIKE, Entry, Table, closest


@dataclasses.dataclass(frozen=True)
class Source(Entry):
    """A row. Its target is a function of (DataConfig) that returns a DataSet; with `downloads`, of (DataConfig, bool).

    Args:
      parse: "module:function" of a light module, argument -> value, which raises CannotRun for an impossible one; "" keeps
        the argument as it is.
      look: "module:function" of a light module, of (DataConfig), which raises CannotRun where nothing can be opened; "" for a
        source that needs no place.
      remedies: "module:function", DataConfig -> what makes the input faster, the most effective first; "" for nothing.
      has_place: the argument is a place, which says nothing of what lies there: the data may move while a run goes on.
      holds_files: its examples are Files, which are packed as they are.
      is_packed: `convoy data pack` made it, and need not again.
      copies: what lies in a bucket is copied below --data_dir.
      downloads: what is not there may be downloaded and prepared below --data_dir, if the function's second argument allows it.
    """

    parse: str = ""
    look: str = ""
    remedies: str = ""
    has_place: bool = False
    holds_files: bool = False
    is_packed: bool = False
    copies: bool = False
    downloads: bool = False


SOURCES: Table[Source] = Table(
    "data set",
    {
        "digits": Source(
            "convoy.data.sources.digits:open_digits", "1,797 real handwritten digits, nothing to download"
        ),
        "folder": Source(
            "convoy.data.sources.folder:open_folder",
            "one folder of images per class",
            argument="PATH",
            look="convoy.data.sources.places:folder",
            remedies="convoy.data.sources.listed:remedies",
            has_place=True,
            holds_files=True,
            options=("group", "bit_depth"),
        ),
        "csv": Source(
            "convoy.data.sources.csv_file:open_csv",
            "image files that a CSV lists, with the columns file, label and, if there are, split and group",
            argument="FILE",
            look="convoy.data.sources.places:csv_file",
            remedies="convoy.data.sources.listed:remedies",
            has_place=True,
            holds_files=True,
            options=("group", "bit_depth"),
        ),
        "records": Source(
            "convoy.data.sources.records:open_records",
            "what `convoy data pack` made of another data set, in a directory or at gs://BUCKET/PATH",
            argument="DIR",
            look="convoy.data.sources.places:records",
            remedies="convoy.data.sources.records:remedies",
            has_place=True,
            is_packed=True,
            copies=True,
            options=("bit_depth",),
        ),
        "synthetic": Source(
            "convoy.data.sources.synthetic:open_synthetic",
            "noise that can be learned, for measurements",
            argument="HxWxC:CLASSES:N",
            parse="convoy.data.sources.arguments:synthetic_shape",
        ),
    },
)
# Another name is one that TFDS knows, or has prepared.
TFDS = Source(
    "convoy.data.sources.tfds:open_tfds",
    "cifar10 or any other image classification set of TFDS, as NAME, NAME/CONFIG or NAME:1.2.3",
    parse="convoy.data.sources.arguments:tfds_name",
    look="convoy.data.sources.unprepared:check",
    downloads=True,
)


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """--dataset, parsed.

    Attributes:
      text: as a person wrote it.
      name: that of the source; "" for TFDS.
      source: its row.
      value: what the source's `parse` made of the argument.
    """

    text: str
    name: str
    source: Source
    value: object

    @classmethod
    def parse(cls, text: str) -> DatasetSpec:
        """CannotRun, a sentence, for what cannot be opened whatever lies there."""
        if not text:
            raise exits.CannotRun("--dataset= is empty; give digits, a TFDS name such as cifar10, or folder:PATH.")
        name, colon, argument = text.partition(":")
        source = SOURCES.get(name)
        if source is None and (refusal := _meant(text, name, colon)):
            raise impossible("dataset", text, refusal)
        if source is None or (colon and not source.argument):
            name, source, argument = "", TFDS, text
        elif source.argument and not argument:
            raise exits.CannotRun(
                f"--dataset={shortened(text)} says no {source.argument}; write {SOURCES.syntax(name)}."
            )
        value = pkgutil.resolve_name(source.parse)(text, argument) if source.parse else argument
        return cls(text, name, source, value)


def _meant(text: str, name: str, colon: str) -> str:
    """What a person seems to mean who wrote what begins like no source: a misspelled one or a path; "" for a name of TFDS."""
    if text.startswith(("/", "~", ".")):
        return f"did you mean {'csv' if text.lower().endswith('.csv') else 'folder'}:{shortened(text)}?"
    close = closest(name, SOURCES, cutoff=ALIKE) if colon else []
    return f"did you mean {SOURCES.syntax(close[0])}?" if close else ""


def help_text() -> str:
    """Of --dataset."""
    return f"{SOURCES.help()}; {TFDS.help}"
