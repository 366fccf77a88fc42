"""The generator of hostile input repeats, draws every kind of damage, and notices a write outside."""

from __future__ import annotations

import json

import pytest

from mutations import SEED, case, document, name, torn, untouched

RIGHT = {"schema": 2, "objects": {"a.npz": {"bytes": 3, "tensors": ["model/a", "model/b"]}}}


def drawn(draw, count=2000):
    values = []
    for number in range(count):
        with case(SEED, number) as chance:
            values.append(draw(chance))
    return values


def test_cases_repeat_and_differ():
    for draw in (lambda chance: document(RIGHT, chance), name, lambda chance: torn(b"content" * 9, chance)):
        first = drawn(draw, 300)
        assert first == drawn(draw, 300)
        assert len(set(map(repr, first))) > 100


def test_documents_are_damaged_in_every_way():
    kinds = set()
    for data in drawn(lambda chance: document(RIGHT, chance)):
        try:
            value = json.loads(data)
        except RecursionError:
            kinds.add("deep")
        except UnicodeDecodeError:
            kinds.add("no text")
        except json.JSONDecodeError:
            kinds.add("no JSON")
        except ValueError:
            kinds.add("too many digits")
        else:
            kinds.add("as it was" if value == RIGHT else "no object" if not isinstance(value, dict) else "wrong within")
            if "NaN" in repr(data):
                kinds.add("NaN")
    assert kinds == {"deep", "no text", "no JSON", "too many digits", "as it was", "no object", "wrong within", "NaN"}


def test_a_failure_names_its_case():
    with pytest.raises(ZeroDivisionError) as raised, case(7, 3):
        1 / 0  # noqa: B018
    assert raised.value.__notes__ == ["case 3 of CONVOY_TEST_SEED=7"]


TOUCHES = {
    "comes": lambda folder: (folder / "new").touch(),
    "goes": lambda folder: (folder / "file").unlink(),
    "is written": lambda folder: (folder / "file").write_text("longer"),
    "becomes a link": lambda folder: (folder / "file").rename(folder / "link") and (folder / "file").symlink_to("link"),
}


@pytest.mark.parametrize("touch", TOUCHES)
def test_a_touch_outside_is_noticed(tmp_path, touch):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "file").write_text("one")
    with untouched(tmp_path, inside):
        TOUCHES[touch](inside)
    with pytest.raises(AssertionError, match="touched outside"), untouched(tmp_path, inside):
        TOUCHES[touch](outside)
