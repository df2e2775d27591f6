"""A graph from a stranger: the one good form passes, each bad one is refused for its own reason."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.errors import PersonaFormatError
from engines.onnx_guard import GuardLimits, check_onnx
from tests.onnx_models import affine, build, swap_model, value


def test_interface_of_good_graphs() -> None:
    interface = check_onnx(affine())
    assert dict(interface.inputs) == {"x": (1, 3, 2, 2)}
    assert dict(interface.outputs) == {"y": (1, 3, 2, 2), "total": ()}
    assert check_onnx(swap_model().SerializeToString()).inputs["face"] == (1, 3, 16, 16)


def test_weights_listed_as_inputs_are_no_inputs() -> None:
    """What old exporters (opset 12, DeepFaceLive's files) write."""
    model = swap_model()
    model.graph.input.append(value("scale", 1))
    assert list(check_onnx(model.SerializeToString()).inputs) == ["face"]


def external_data():
    model = swap_model()
    weight = next(w for w in model.graph.initializer if w.name == "scale")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../etc/passwd")
    return model


def output_twice():
    """OpenVINO then gives fewer values than the graph says."""
    model = swap_model()
    model.graph.output.append(model.graph.output[0])
    return model


def huge_input():
    """Nobody computes with it, but whoever feeds the graph has to make it."""
    model = swap_model()
    model.graph.input.append(value("more", 1, 2**40))
    return model


def endless_convolution():
    """Weights that the file does not hold, and a run of an hour."""
    shape = numpy_helper.from_array(np.array([2048, 2048, 4, 3], np.int64), "shape")
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["kernel"]),
             helper.make_node("Expand", ["x", "wide"], ["y0"])]  # fmt: skip
    nodes += [helper.make_node("Conv", [f"y{i}", "kernel"], [f"y{i + 1}"], pads=[1, 1, 2, 1]) for i in range(8)]
    model = build(
        nodes,
        [value("x", 1, 1, 1, 1)],
        [value("y8", 1, 2048, 160, 160)],
        {"wide": np.array([1, 2048, 160, 160], np.int64)},
    )
    model.graph.initializer.append(shape)
    return model


def recurrent():
    model = swap_model()
    model.graph.node[0].op_type = "LSTM"
    return model


def external_constant():
    model = swap_model()
    constant = numpy_helper.from_array(np.ones(1, np.float32), "k")
    constant.ClearField("raw_data")
    constant.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["k"], value=constant))
    return model


def custom_domain():
    model = swap_model()
    model.graph.node[1].domain = "com.microsoft"
    return model


def custom_opset():
    model = swap_model()
    model.opset_import.append(helper.make_opsetid("evil.ops", 1))
    return model


def unknown_operator():
    model = swap_model()
    model.graph.node[1].op_type = "RunPython"
    return model


def own_function():
    model = swap_model()
    model.functions.append(
        helper.make_function(
            "", "Own", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 17)]
        )
    )
    return model


def control_flow():
    model = swap_model()
    branch = helper.make_graph([helper.make_node("Identity", ["big"], ["o"])], "b", [], [value("o", 1, 3, 32, 32)])
    model.graph.node.insert(1, helper.make_node("If", ["c"], ["chosen"], then_branch=branch, else_branch=branch))
    return model


def loop_in_a_list():
    model = swap_model()
    body = helper.make_graph([], "b", [], [])
    model.graph.node[1].attribute.append(helper.make_attribute("graphs", [body]))
    return model


def sparse():
    model = swap_model()
    model.graph.sparse_initializer.add().dims.append(3)
    return model


def dynamic_input():
    model = swap_model()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    return model


def no_shape():
    model = swap_model()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def data_dependent():
    nodes = [helper.make_node("NonZero", ["x"], ["where"]), helper.make_node("Relu", ["x"], ["y"])]
    return build(nodes, [value("x", 4)], [value("y", 4)])


def data_dependent_output():
    """Claims a fixed output that depends on data."""
    nodes = [
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("Cast", ["where"], ["y"], to=TensorProto.FLOAT),
    ]
    return build(nodes, [value("x", 4)], [value("y", 1, 4)])


def nodes_out_of_order():
    model = swap_model()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def missing_value():
    model = swap_model()
    del model.graph.node[0]
    return model


def inflating():
    """40 bytes that would become 4 GB."""
    weights = {"shape": np.array([1024, 1024, 1024], np.int64)}
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["top"], keepdims=0),
        helper.make_node("Add", ["x", "top"], ["y"]),
    ]
    return build(nodes, [value("x", 4)], [value("y", 4)], weights)


def many_large_values():
    nodes = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(20)]
    return build(nodes, [value("v0", 1, 6000, 6000)], [value("v20", 1, 6000, 6000)])


def hidden_inner_shape():
    """A claimed inner shape must not stand in for the inferred one."""
    model = inflating()
    model.graph.value_info.append(value("huge", 1))
    return model


def lying_weight():
    model = swap_model()
    weight = next(w for w in model.graph.initializer if w.name == "scale")
    weight.dims[0] = 1000
    return model


def negative_dims():
    model = swap_model()
    weight = next(w for w in model.graph.initializer if w.name == "scale")
    weight.dims.extend([-1, -1])
    return model


def strings():
    model = swap_model()
    model.graph.initializer.append(helper.make_tensor("s", TensorProto.STRING, [1], [b"x"]))
    return model


def too_many_nodes():
    nodes = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(2001)]
    return build(nodes, [value("v0", 1)], [value("v2001", 1)])


def made_twice():
    model = swap_model()
    model.graph.node.append(helper.make_node("Relu", ["big"], ["swap"]))
    return model


def integer_output():
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT64)]
    return build(nodes, [value("x", 4)], [value("y", 4, kind=TensorProto.INT64)])


def future_opset():
    model = swap_model()
    model.opset_import[0].version = 99
    return model


def output_lies():
    model = swap_model()
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 64
    return model


BAD = [
    (external_data, "another file"),
    (external_constant, "another file"),
    (endless_convolution, "multiplications"),
    (recurrent, "the operator 'LSTM'"),
    (output_twice, "is made twice"),
    (huge_input, "an input of 1099511627776 numbers"),
    (custom_domain, "not a standard one"),
    (custom_opset, "imports the operators"),
    (unknown_operator, "RunPython"),
    (own_function, "functions of its own"),
    (control_flow, "control flow"),
    (loop_in_a_list, "control flow"),
    (sparse, "sparse"),
    (dynamic_input, "not fixed"),
    (no_shape, "no shape"),
    (data_dependent, "not fixed"),
    (data_dependent_output, "has None"),
    (nodes_out_of_order, "not consistent"),
    (missing_value, "not consistent"),
    (inflating, "needs 1073741824"),
    (hidden_inner_shape, "needs 1073741824"),
    (many_large_values, "all values together"),
    (lying_weight, "says 1000 numbers"),
    (negative_dims, "numbers"),
    (strings, "plain numbers"),
    (too_many_nodes, "2001 nodes"),
    (made_twice, "made twice"),
    (integer_output, "not float32"),
    (future_opset, "operator set 99"),
    (output_lies, "says"),
]


@pytest.mark.parametrize(("make", "reason"), BAD, ids=[make.__name__ for make, _ in BAD])
def test_refused(make, reason: str) -> None:
    with pytest.raises(PersonaFormatError, match=reason):
        check_onnx(make().SerializeToString())


def test_bytes_that_are_no_graph() -> None:
    for data in (b"", b"garbage", b"\x80\x04\x95", affine()[:-10]):
        with pytest.raises(PersonaFormatError):
            check_onnx(data)


def test_size_limits() -> None:
    data = affine()
    with pytest.raises(PersonaFormatError, match="bytes"):
        check_onnx(data, GuardLimits(file_bytes=len(data) - 1))
    with pytest.raises(PersonaFormatError, match="nodes"):
        check_onnx(data, GuardLimits(nodes=2))
    with pytest.raises(PersonaFormatError, match="numbers"):
        check_onnx(data, GuardLimits(tensor_elements=11))
    check_onnx(data, GuardLimits(file_bytes=len(data), nodes=3, tensor_elements=12))
