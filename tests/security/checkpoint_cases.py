"""Checkpoints drawn from a seed: one error in a manifest, state, name, zip file or header, under right checksums."""

from __future__ import annotations

import random
import struct
import zipfile
from collections.abc import Callable

from checkpoint_files import Forgery, npy, npz
from mutations import FRAGMENTS, document, name, torn


def forged(forgery: Forgery, chance: random.Random) -> None:
    """Writes the checkpoint with an error that no checksum shows, or now and then as it was."""
    forgery.reset()
    file = chance.choice([name for name in forgery.files if name.endswith(".npz")])
    manifest = None
    match chance.randrange(8):
        case 0 | 1:
            manifest = document(forgery.manifest, chance)
        case 2:
            objects = forgery.manifest["objects"]
            objects[str(name(chance, file))] = objects.pop(file)
        case 3:
            forgery.files["state.json"] = document(forgery.state, chance)
        case 4:
            forgery.files[file] = torn(forgery.files[file], chance)
        case 5:
            members = forgery.members(file)
            chance.choice(_STRUCTURES)(members, chance)
            compression = chance.choice([zipfile.ZIP_STORED] * 4 + [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
            forgery.files[file] = npz(members, compression, chance.choice([b"", b"", b"x" * 9]))
        case _:
            members = forgery.members(file)
            index = chance.randrange(len(members))
            members[index] = members[index][0], _member(members[index][1], chance)
            forgery.files[file] = npz(members)
    forgery.write(manifest)


def _member(content: bytes, chance: random.Random) -> bytes:
    """A member with another header, or with other numbers than its header says."""
    match chance.randrange(4):
        case 0:
            return torn(content, chance)
        case 1:
            return chance.choice(FRAGMENTS).encode()
        case 2:
            return npy(chance.choice(_TYPES), chance.choice(_SHAPES), chance.randbytes(chance.choice([0, 4, 12, 96])))
        case _:
            header = content[10:128]
            for _ in range(chance.randrange(3)):
                old, new = chance.choice(
                    [(b"<", b">"), (b"f", b"c"), (b"4", b"8"), (b"False", b"True"), (b"3", b"-3"), (b"(", b"[(")]
                )
                header = header.replace(old, new)
            return content[:8] + struct.pack("<H", len(header)) + header + content[128:]


def _doubled(members: list[tuple[str, bytes]], chance: random.Random) -> None:
    members.append(chance.choice(members))


def _dropped(members: list[tuple[str, bytes]], chance: random.Random) -> None:
    members.pop(chance.randrange(len(members)))


def _more(members: list[tuple[str, bytes]], chance: random.Random) -> None:
    odd = name(chance)
    path = odd if isinstance(odd, str) and odd.isascii() else "x.npy"
    members.insert(chance.randrange(len(members) + 1), (path, npy("'<f4'", "(1,)", bytes(4))))


def _as_it_was(members: list[tuple[str, bytes]], chance: random.Random) -> None: ...


_STRUCTURES: list[Callable[[list[tuple[str, bytes]], random.Random], None]] = [_doubled, _dropped, _more, _as_it_was]
_TYPES = [
    "'<f4'", "'>f4'", "'<f8'", "'<c8'", "'|O'", "'|S4'", "'<U1'", "'<M8[s]'", "'|V4'", "[('a', '<f4')]", "'<f16'", "'|b1'",
    "'<i4'", "('<f4', (3,))", "None", "'" + "x" * 300 + "'", "[" * 200 + "]" * 200,
]  # fmt: skip
_SHAPES = [
    "()", "(1,)", "(3,)", "(2, 3, 4)", "(-1,)", "(True,)", "(1099511627776,)", "(0, 9223372036854775807)", "(3.0,)", "[3]",
    "(03,)", "(0, 99999999999999999999)", "(" + "1, " * 80 + ")", "3", "None", "(" * 150 + ")" * 150, "(3,),",
]  # fmt: skip
