"""The quantised network gives nearly the same picture, and is refused where it cannot be made."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from engines.errors import ExportError
from engines.int8 import crop_feeds, quantise, range_feeds
from engines.persona import read_persona
from engines.runtimes.openvino import OpenVinoRuntime
from realtime.session import persona_store


@pytest.fixture(scope="module")
def vera():
    return read_persona(persona_store().find("vera"))


@pytest.fixture(scope="module")
def crops():
    """Smooth noise: what matters here is agreement, not faces."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    points = np.random.default_rng(1).uniform(0.3, 0.7, (6, 127, 2)).astype(np.float32)
    return coarse.repeat(16, axis=1).repeat(16, axis=2), points


@pytest.fixture(scope="module")
def quantised(vera, crops):
    return quantise(vera.swap_onnx, range_feeds(vera.manifest, crops[0][:2], crops[1][:2]))


def test_the_picture_agrees_and_the_interface_is_the_same(vera, crops, quantised):
    reference, runtime = OpenVinoRuntime(vera.swap_onnx), OpenVinoRuntime(quantised, precision="int8")
    assert runtime.precision == "int8"
    assert dict(runtime.inputs) == dict(reference.inputs)
    assert dict(runtime.outputs) == dict(reference.outputs)
    squares = []
    for feeds in crop_feeds(vera.manifest, crops[0][2:], crops[1][2:]):
        expected, found = reference.run(feeds), runtime.run(feeds)
        squares.append(float(np.mean((expected["swap"] - found["swap"]) ** 2)))
    assert -10 * np.log10(np.mean(squares)) > 30


def test_convolutions_are_in_eight_bits_but_for_the_last(quantised):
    nodes = onnx.load_model_from_string(quantised).graph.node
    made_by = {name: node.op_type for node in nodes for name in node.output}
    kinds = [made_by.get(node.input[1]) == "DequantizeLinear" for node in nodes if node.op_type == "Conv"]
    assert all(kinds[:-1])
    assert not kinds[-1]


def test_ranges_come_from_dark_and_light_pictures_with_and_without_points(vera, crops):
    feeds = range_feeds(vera.manifest, crops[0][:1], crops[1][:1])
    means = [float(one["face"].mean()) for one in feeds]
    assert len({round(mean, 3) for mean in means}) == 3
    assert [float(one["present"][0, 0]) for one in feeds] == [1, 1, 1, 0]


def test_nothing_to_measure_ranges_on_is_refused(vera):
    with pytest.raises(ExportError, match="ranges"):
        quantise(vera.swap_onnx, [])
