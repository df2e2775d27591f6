from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines import dfm
from engines.crop_square import CropSquare, whole_face
from engines.dfm import import_dfm
from engines.errors import PersonaFormatError
from engines.geometry import CORE, CROP_CENTRE_DM, CROP_SIDE_DM, MOUTH_TOP, TEMPLATE, transform
from engines.live_graph import live_graph
from engines.onnx_guard import GuardLimits
from engines.runtimes import open_runtime
from tests.dfm_models import CHANNELS, GAINS, R, amp, plain

RUNTIMES = ("openvino", "onnxruntime")


def face(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (1, 3, R, R)).astype(np.float32)


def run(swap_onnx: bytes, runtime: str, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    opened = open_runtime(swap_onnx, prefer=[runtime])
    return {name: value.copy() for name, value in opened.run(feeds).items()}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("batch", ["N", 1, 4, 0])
def test_a_plain_model_sees_bgr_rows_and_gives_rgb_planes(runtime, batch):
    made = import_dfm(plain(batch=batch).SerializeToString())
    assert (made.side, made.morph) == (R, False)
    rgb = face()
    found = run(made.swap_onnx, runtime, face=rgb)
    np.testing.assert_allclose(found["swap"], rgb * GAINS[::-1].reshape(1, 3, 1, 1), atol=1e-5)
    np.testing.assert_allclose(found["mask"][0, 0], np.minimum(rgb[0, 0], rgb[0, 1]), atol=1e-6)
    np.testing.assert_allclose(found["code"], found["swap"].mean((2, 3)), atol=1e-5)


def test_the_mask_may_be_chosen():
    data, rgb = plain().SerializeToString(), face()
    for choice, plane in (("persona", 1), ("wearer", 0)):
        found = run(import_dfm(data, mask=choice).swap_onnx, "onnxruntime", face=rgb)
        np.testing.assert_allclose(found["mask"][0, 0], rgb[0, plane], atol=1e-6)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("lerp", [False, True])
def test_an_amp_model_morphs_in_one_graph_of_fixed_shapes(runtime, lerp):
    made = import_dfm(amp(lerp=lerp).SerializeToString())
    assert made.morph
    assert "Slice" not in {node.op_type for node in onnx.load_model_from_string(made.swap_onnx).graph.node}
    for morph in (0.0, 0.29, 0.5, 0.75, 1.0):
        found = run(made.swap_onnx, runtime, face=face(), morph=np.full((1, 1), morph, np.float32))
        share = morph if lerp else int(CHANNELS * morph) / CHANNELS
        np.testing.assert_allclose(found["swap"], 0.2 + 0.7 * share, atol=1e-5)


def test_older_operator_sets_become_one_that_plans_are_built_of():
    for model in (plain(), amp()):
        swap_onnx = import_dfm(model.SerializeToString()).swap_onnx
        assert onnx.load_model_from_string(swap_onnx).opset_import[0].version == 17
        names = {value.name for value in onnx.load_model_from_string(live_graph(swap_onnx)).graph.input}
        assert names == ({"crop", "morph"} if model.graph.input[1:] else {"crop"})


def test_wrong_static_output_shapes_are_put_right_and_named():
    wrong = {"picture": (1, 3, R, R), "persona": (1, 128, 128, 1)}
    made = import_dfm(plain(batch=1, **wrong).SerializeToString())
    assert any(f"said (1, 3, {R}, {R}) and is (1, {R}, {R}, 3)" in line for line in made.repaired)
    assert sum("out_celeb_face_mask:0" in line for line in made.repaired) == 1
    assert any("ai.onnx.ml" in line for line in made.repaired)


def test_large_weights_are_kept_in_half_the_bytes(monkeypatch):
    model = plain()
    model.graph.node[0].output[0] = "bare"
    noise = np.random.default_rng(0).normal(0, 0.01, (1, R, R, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(noise, "noise"))
    model.graph.node.insert(1, helper.make_node("Add", ["bare", "noise"], ["out_celeb_face:0"]))
    data = model.SerializeToString()
    whole = import_dfm(data).swap_onnx
    monkeypatch.setattr(dfm, "_HALVED_FROM", 100)
    half = import_dfm(data).swap_onnx
    assert len(half) < 0.6 * len(whole)
    a, b = (run(graph, "onnxruntime", face=face())["swap"] for graph in (whole, half))
    assert 0 < np.abs(a - b).max() < 1e-4


# ---- what is refused ---------------------------------------------------------------------------------------------


def without(name: str, values: str):
    def change(model):
        kept = [value for value in getattr(model.graph, values) if value.name != name]
        del getattr(model.graph, values)[:]
        getattr(model.graph, values).extend(kept)

    return change


def external(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def custom(model):
    model.graph.node[0].domain = "com.evil"
    model.opset_import.append(helper.make_opsetid("com.evil", 1))


def loop(model):
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", ""], ["never"], body=body))


def planes_first(model):
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("in_face:0", TensorProto.FLOAT, [1, 3, R, R]))


def any_side(model):
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("in_face:0", TensorProto.FLOAT, ["N", "R", "R", 3]))


def other_input(model):
    model.graph.input.append(helper.make_tensor_value_info("secret:0", TensorProto.FLOAT, [1]))


def halved_output(model):
    model.graph.node[0].output[0] = "whole"
    node = helper.make_node("Slice", ["whole", "one", "two", "one"], ["out_celeb_face:0"])
    model.graph.node.append(node)


def not_finite(model):
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full(3, np.inf, np.float32), "gains"))


def data_dependent(model):
    model.graph.node[0].output[0] = "whole"
    model.graph.node.append(helper.make_node("NonZero", ["whole"], ["places"]))
    model.graph.node.append(helper.make_node("Cast", ["places"], ["out_celeb_face:0"], to=TensorProto.FLOAT))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("out_celeb_face_mask:0", "output"), "no output out_celeb_face_mask:0"),
        (without("in_face:0", "input"), "no input in_face:0"),
        (external, "another file"),
        (custom, "com.evil"),
        (loop, "control flow"),
        (planes_first, "planes first"),
        (any_side, "not (N, R, R, 3)"),
        (other_input, "secret"),
        (halved_output, f"not (1, {R}, {R}, 3)"),
        (not_finite, "not finite"),
        (data_dependent, "not fixed"),
    ],
)
def test_what_is_no_such_model_is_refused_with_the_reason(change, words):
    model = plain(batch=1)
    change(model)
    with pytest.raises(PersonaFormatError) as caught:
        import_dfm(model.SerializeToString())
    assert words in caught.value.message
    assert caught.value.message.startswith("the DFM file is refused")
    assert "DeepFaceLive" in caught.value.hint


def test_a_side_and_a_size_beyond_measure_are_refused():
    with pytest.raises(PersonaFormatError, match="2048 pixels"):
        import_dfm(plain(2048).SerializeToString())
    data = plain().SerializeToString()
    with pytest.raises(PersonaFormatError, match="bytes"):
        import_dfm(data, limits=GuardLimits(file_bytes=100))
    with pytest.raises(PersonaFormatError, match="nodes"):
        import_dfm(data, limits=GuardLimits(nodes=2))
    with pytest.raises(PersonaFormatError, match="refused"):
        import_dfm(b"\x08\x01" + b"x" * 50)


# ---- the square --------------------------------------------------------------------------------------------------


def test_the_whole_face_has_forehead_and_chin_in_it():
    square = whole_face()
    assert square.side_dm == pytest.approx(2.73, abs=0.01)
    assert abs(square.centre_dm[1] - 0.05) < 0.01
    points = square.fractions(TEMPLATE)
    eyes, nose = points[[0, 3]].mean(0), points[7]
    assert 0.38 < eyes[1] < 0.42 < nose[1] < 0.56


def test_a_square_and_its_fractions_agree():
    size, square = 200, CropSquare(2.9, (0.1, 0.02))
    to_standard = square.to_standard(size)
    inside = square.fractions(CORE) * size - 0.5
    np.testing.assert_allclose(transform(to_standard, inside), CORE * size - 0.5, atol=1e-9)
    assert square.mouth_top == pytest.approx(((MOUTH_TOP - 0.5) * CROP_SIDE_DM + CROP_CENTRE_DM[1] - 0.02) / 2.9 + 0.5)
    standard = CropSquare()
    assert standard.standard
    assert not square.standard
    np.testing.assert_allclose(standard.to_standard(size), [[1, 0, 0], [0, 1, 0]], atol=1e-12)
