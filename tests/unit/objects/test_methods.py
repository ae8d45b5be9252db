"""Every objects method keeps the contract, whatever it is called."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from unet_studio.errors import RecipeError
from unet_studio.models.card import DEFAULT_OBJECTS
from unet_studio.objects.methods import METHODS, options_class, parse_options, suitable_methods
from unet_studio.recipe import ObjectsMethod

CHANNELS = {"binary": 1, "classes": 4, "objects": 3}


def some_probabilities(representation: str, shape: tuple[int, ...]) -> np.ndarray:
    random = np.random.default_rng(3).random((CHANNELS[representation], *shape))
    return random.astype(np.float16)


@pytest.mark.parametrize("name", METHODS.names())
def test_options_explain_themselves_and_have_limits(name):
    fields = options_class(name).model_fields
    for field_name, field in fields.items():
        assert field.description, f"{name}.{field_name} has no tooltip"
        assert not field.is_required(), f"{name}.{field_name} has no default"
        if field.annotation in (int, float):
            limits = {type(m).__name__ for m in field.metadata}
            assert "Ge" in limits, f"{name}.{field_name} has no lower limit"
        if field.annotation is float:
            assert "Le" in limits, f"{name}.{field_name} has no upper limit"


@pytest.mark.parametrize("name", METHODS.names())
def test_options_are_frozen(name):
    options = parse_options(ObjectsMethod(method=name))
    field = next(iter(type(options).model_fields))
    with pytest.raises(ValidationError):
        setattr(options, field, 0)


@pytest.mark.parametrize("shape", [(33, 40), (9, 20, 21), (1, 1), (1, 7)])
@pytest.mark.parametrize("name", METHODS.names())
def test_contract(name, shape):
    method = METHODS.load(name)
    options = parse_options(ObjectsMethod(method=name))
    assert method.representations
    for representation in method.representations:
        probabilities = some_probabilities(representation, shape)
        before = probabilities.copy()
        labels = method.function(probabilities, options, representation)
        assert labels.shape == shape
        assert labels.dtype.kind in "iu"
        assert labels.min() >= 0
        np.testing.assert_array_equal(probabilities, before, "the input was written to")
        again = method.function(probabilities.copy(), options, representation)
        np.testing.assert_array_equal(labels, again)


@pytest.mark.parametrize("value", [0, np.nan])
@pytest.mark.parametrize("name", METHODS.names())
def test_nothing_found_is_background(name, value):
    method = METHODS.load(name)
    options = parse_options(ObjectsMethod(method=name))
    for representation in method.representations:
        probabilities = np.full((CHANNELS[representation], 16, 16), value, np.float16)
        assert not method.function(probabilities, options, representation).any()


@pytest.mark.parametrize("name", METHODS.names())
def test_unknown_option_names_the_known_ones(name):
    with pytest.raises(RecipeError, match="no option 'treshold'") as caught:
        parse_options(ObjectsMethod(method=name, options={"treshold": 0.5}))
    for known in options_class(name).model_fields:
        assert known in str(caught.value)


@pytest.mark.parametrize("value", [-0.1, 1.1, "high", float("nan"), None])
def test_option_out_of_range_is_named(value):
    with pytest.raises(RecipeError, match="threshold"):
        parse_options(ObjectsMethod(method="watershed", options={"threshold": value}))


def test_unknown_method_lists_the_known_ones():
    with pytest.raises(RecipeError, match=r"threshold.*argmax.*components.*watershed"):
        parse_options(ObjectsMethod(method="snakes"))


def test_every_representation_has_a_default_that_fits():
    for representation, method in DEFAULT_OBJECTS.items():
        assert method.method in suitable_methods(representation)
        parse_options(method)
