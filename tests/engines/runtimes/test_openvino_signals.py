"""Signals must find a stack, however many networks came and went."""

from __future__ import annotations

import subprocess
import sys

import onnx
import pytest
from onnx import TensorProto, helper

_COME_AND_GO = """
import gc, signal, subprocess, sys
from engines.runtimes.openvino import OpenVinoRuntime
model = sys.stdin.buffer.read()
signal.signal(signal.SIGCHLD, lambda *_: None)  # as torch's DataLoader does
for _ in range(3):
    runtimes = [OpenVinoRuntime(model) for _ in range(3)]
    while runtimes:
        runtimes.pop(0).close()
        gc.collect()
        subprocess.run([sys.executable, "-c", ""], check=True)
print("alive")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_the_end_of_a_child_does_not_kill_after_networks_were_closed() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    done = subprocess.run(
        [sys.executable, "-c", _COME_AND_GO],
        input=model.SerializeToString(),
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.decode().strip() == "alive", f"ended with {done.returncode}: {done.stderr.decode()[-2000:]}"
