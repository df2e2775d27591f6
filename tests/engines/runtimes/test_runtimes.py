"""Both runtimes against networks whose answers are known, and against everything that must be refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from engines.errors import RuntimeFailure
from engines.runtimes import open_runtime
from engines.runtimes.base import RuntimeName
from tests.onnx_models import affine, build, swap_model, value

BOTH: list[RuntimeName] = ["openvino", "onnxruntime"]
X = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)


@pytest.mark.parametrize("name", BOTH)
def test_known_answer_shapes_and_names(name: RuntimeName) -> None:
    runtime = open_runtime(affine(), prefer=[name])
    assert (runtime.name, runtime.precision) == (name, "f32")
    assert dict(runtime.inputs) == {"x": (1, 3, 2, 2)}
    assert dict(runtime.outputs) == {"y": (1, 3, 2, 2), "total": ()}
    for x in (X, X + 100, -X):
        out = runtime.run({"x": x})
        np.testing.assert_array_equal(out["y"], 2 * x + 1)
        assert out["total"] == (2 * x + 1).sum()
        assert out["y"].dtype == np.float32


@pytest.mark.parametrize("name", BOTH)
def test_outputs_are_reused_and_feeds_are_not_kept(name: RuntimeName) -> None:
    runtime = open_runtime(affine(), prefer=[name])
    x = X.copy()
    first = runtime.run({"x": x})["y"]
    x[:] = 50
    np.testing.assert_array_equal(first, 2 * X + 1)
    second = runtime.run({"x": x})["y"]
    assert second is first
    assert (first == 101).all()


@pytest.mark.parametrize("name", BOTH)
def test_same_numbers_in_float32_even_for_large_ones(name: RuntimeName) -> None:
    """bf16, OpenVINO's own default on some CPUs, keeps 8 bits: 1001 would become 1000."""
    x = np.full((1, 3, 2, 2), 500.25, np.float32)
    assert open_runtime(affine(), prefer=[name]).run({"x": x})["y"].flat[0] == 1001.5


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"x": X, "z": X},
        {"z": X},
        {"x": X.astype(np.float64)},
        {"x": X[:, :2]},
        {"x": X.transpose(0, 1, 3, 2)},
        {"x": X.tolist()},
    ],
    ids=["none", "extra", "other name", "float64", "shape", "not contiguous", "list"],
)
def test_wrong_feeds_are_refused_and_the_next_run_works(name: RuntimeName, feeds: dict) -> None:
    runtime = open_runtime(affine(), prefer=[name])
    with pytest.raises(RuntimeFailure):
        runtime.run(feeds)
    assert runtime.run({"x": X})["y"].flat[1] == 3


@pytest.mark.parametrize("name", BOTH)
def test_close_twice_then_run_is_refused(name: RuntimeName) -> None:
    runtime = open_runtime(affine(), prefer=[name])
    runtime.close()
    runtime.close()
    with pytest.raises(RuntimeFailure, match="closed"):
        runtime.run({"x": X})


def dynamic() -> bytes:
    model = build([helper.make_node("Relu", ["x"], ["y"])], [value("x", "n", 3)], [value("y", "n", 3)])
    return bytes(model.SerializeToString())


def integers() -> bytes:
    kind = TensorProto.INT64
    model = build([helper.make_node("Identity", ["x"], ["y"])], [value("x", 3, kind=kind)], [value("y", 3, kind=kind)])
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("model", [b"", b"no onnx at all", affine()[:60], dynamic(), integers()])
def test_every_failure_is_reported_together(model: bytes) -> None:
    with pytest.raises(RuntimeFailure) as caught:
        open_runtime(model)
    assert "openvino: " in caught.value.message
    assert "onnxruntime: " in caught.value.message
    assert caught.value.hint


def test_the_next_runtime_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert open_runtime(affine()).name == "onnxruntime"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeFailure, match=r"OpenVINO cannot be imported.*ONNX Runtime cannot be imported"):
        open_runtime(affine())


def test_a_file_and_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(affine())
    assert open_runtime(path).run({"x": X})["y"].flat[0] == 1
    with pytest.raises(RuntimeFailure, match="cannot be read"):
        open_runtime(tmp_path / "b.onnx")
    with pytest.raises(RuntimeFailure, match="no runtime was named"):
        open_runtime(path, prefer=[])


def test_bf16_where_it_cannot_be_had() -> None:
    with pytest.raises(RuntimeFailure, match="bf16"):
        open_runtime(affine(), prefer=["onnxruntime"], precision="bf16")
    assert open_runtime(affine(), prefer=["openvino"], precision="bf16").precision in {"bf16", "f32"}


def test_both_agree_on_a_swap_network() -> None:
    face = np.random.default_rng(0).random((1, 3, 16, 16), np.float32)
    model = swap_model().SerializeToString()
    a, b = (open_runtime(model, prefer=[name]).run({"face": face}) for name in BOTH)
    for name in ("swap", "mask", "code"):
        np.testing.assert_allclose(a[name], b[name], atol=1e-6)
    np.testing.assert_array_equal(a["code"][0], face.ravel()[:8])


def test_openvino_is_imported_without_its_telemetry(tmp_path: Path) -> None:
    """In a process and a home folder of its own: nothing is sent, and no client id is written."""
    code = (
        "import sys\n"
        "from engines.runtimes.openvino import import_openvino\n"
        "import_openvino()\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
        "from openvino.tools.ovc import telemetry\n"
        "print(type(telemetry).__module__)\n"
    )
    environment = {"HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path), "PATH": "", "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("telemetry_stub")
    assert list(tmp_path.iterdir()) == []


def test_threads_that_load_at_once_get_the_whole_package_and_one_core():
    """A start loads the detector and the persona in two threads."""
    code = (
        "import sys, threading\n"
        "from engines.runtimes.openvino import openvino_core\n"
        "sys.setswitchinterval(1e-6)\n"
        "cores, barrier = [], threading.Barrier(4)\n"
        "def load():\n"
        "    barrier.wait()\n"
        "    cores.append(openvino_core())\n"
        "threads = [threading.Thread(target=load) for _ in range(4)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "assert len(cores) == 4 and len({id(core) for core in cores}) == 1, cores\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False
    )
    assert done.returncode == 0, done.stderr
