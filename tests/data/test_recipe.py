"""--augment as text."""

from __future__ import annotations

import pytest

from convoy.data.augment.names import Stage
from convoy.data.augment.recipe import Recipe
from convoy.exits import CannotRun


def test_names_numbers_and_defaults():
    assert Recipe.parse("none") == Recipe()
    assert Recipe.parse("article").items == {"rotate": (15,), "shift": (0.1,), "flip": ()}
    assert Recipe.parse("randaugment").items == {"randaugment": (2, 9)}
    assert Recipe.parse("randaugment:3").items == {"randaugment": (3, 9)}
    assert Recipe.parse("photo+trivial+erase:0.5+mixup+cutmix:0.8").items == {
        "flip": (), "resized": (0.08,), "trivial": (), "erase": (0.5,), "mixup": (0.2,), "cutmix": (0.8,),
    }  # fmt: skip


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
def test_an_impossible_recipe_is_refused_in_a_sentence(text, says):
    with pytest.raises(CannotRun) as refused:
        Recipe.parse(text)
    sentence = str(refused.value)
    assert sentence.startswith(f"--augment={text}")
    assert says in sentence
    assert sentence.endswith((".", "?"))


def test_the_order_of_words_changes_nothing():
    assert list(Recipe.parse("cutmix+color+crop").items) == list(Recipe.parse("crop+color+cutmix").items)


def test_a_recipe_says_when_each_part_is_applied():
    recipe = Recipe.parse("mixup+erase+resized+flip+trivial+color")
    assert recipe.names_at(Stage.LEVELS, Stage.LAST) == ["color", "erase"]
    assert [recipe.names_at(stage) for stage in (Stage.READING, Stage.POLICY, Stage.GEOMETRY)] == [
        ["resized"], ["trivial"], ["flip"],
    ]  # fmt: skip
    assert recipe.mixes
    assert not Recipe.parse("color").mixes
    assert (recipe.min_area, Recipe().min_area) == (0.08, 0)
    assert (recipe.number("erase"), recipe.number("cutmix")) == (0.25, 0)
