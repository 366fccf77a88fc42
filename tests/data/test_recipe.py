"""--augment as text."""

from __future__ import annotations

import pytest

from convoy.data.augment.recipe import Recipe
from convoy.exits import CannotRun


def test_names_numbers_and_defaults():
    assert Recipe.parse("none") == Recipe()
    assert Recipe.parse("article") == Recipe(rotate=15, shift=0.1, flip=1)
    assert Recipe.parse("randaugment") == Recipe(operations=2, magnitude=9)
    assert Recipe.parse("randaugment:3") == Recipe(operations=3, magnitude=9)
    assert Recipe.parse("photo+trivial+erase:0.5+mixup+cutmix:0.8") == Recipe(
        least_area=0.08, flip=1, trivial=1, erase=0.5, mixup=0.2, cutmix=0.8
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no augmentation"),
        ("cutmx", "did you mean cutmix?"),
        ("crop+none", "is no augmentation"),
        ("flip:1", "takes no numbers"),
        ("flip+flip", "has flip twice"),
        ("standard+flip", "has flip twice"),
        ("flip+altflip", "leave one of them out"),
        ("randaugment+trivial", "leave one of them out"),
        ("crop+photo", "leave one of them out"),
        ("color:0", "above 0 and at most 1, for example color:0.4"),
        ("color:1.5", "above 0 and at most 1"),
        ("color:nan", "above 0 and at most 1"),
        ("color:much", "color:much is not possible"),
        ("color:0.1:0.2", "color:0.1:0.2 is not possible"),
        ("randaugment:1.5:9", "for example randaugment:2:9"),
        ("randaugment:2:31", "above 0 and at most 8 and above 0 and at most 30"),
        ("randaugment:9:9", "is not possible"),
        ("erase:1.1", "erase:1.1 is not possible"),
        ("mixup:-1", "mixup:-1 is not possible"),
        ("cutmix:inf", "cutmix:inf is not possible"),
    ],
)
def test_what_is_no_recipe_is_refused_in_a_sentence(text, says):
    with pytest.raises(CannotRun) as refused:
        Recipe.parse(text)
    sentence = str(refused.value)
    assert sentence.startswith(f"--augment={text}")
    assert says in sentence
    assert sentence.endswith((".", "?"))


def test_what_a_recipe_asks_of_the_pipeline():
    nothing = Recipe()
    assert not any([nothing.mixes, nothing.maps, nothing.has_policy, nothing.mirrors])
    assert Recipe.parse("mixup").mixes
    assert Recipe.parse("cutmix").mixes
    assert Recipe.parse("zoom").maps
    assert Recipe.parse("trivial").has_policy
    assert Recipe.parse("altflip").mirrors
