"""Both detectors: the shipped networks on a photograph, InsightFace's code on an SCRFD graph with a known answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx import helper

from engines.blazeface import Candidate
from engines.errors import DetectorError, MissingDependencyError
from engines.facemesh import roi_from_mesh
from engines.types import Detection, Frame
from realtime.detect import InsightDetector, MeshDetector, detection_file, plausible, still_the_wearer, wearer_first
from tests.onnx_models import build, value


def frame_of(pixels: np.ndarray, index: int = 0) -> Frame:
    return Frame(np.ascontiguousarray(pixels), index, 0, index * 33_000_000)


@pytest.fixture(scope="module")
def mesh() -> MeshDetector:
    return MeshDetector.load()


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    import insightface.data

    return insightface.data.get_image("t1")


def test_search_takes_the_largest_central_face(mesh: MeshDetector, photograph: np.ndarray) -> None:
    found = mesh.search(frame_of(photograph, 7))
    assert found is not None
    assert (found.frame_index, found.layout, found.landmarks.shape) == (7, "mesh468", (468, 2))
    assert found.score > 0.9
    assert np.linalg.norm(found.landmarks.mean(axis=0) - (515, 344)) < 25
    np.testing.assert_allclose(found.box[:2], found.landmarks.min(axis=0))
    np.testing.assert_allclose(found.box[2:], found.landmarks.max(axis=0))


@pytest.mark.parametrize("shift", [(25, 0), (0, -20), (-15, 15)])
def test_follow_finds_the_face_where_it_moved_to(
    mesh: MeshDetector, photograph: np.ndarray, shift: tuple[int, int]
) -> None:
    last = mesh.search(frame_of(photograph))
    assert last is not None
    moved = cv2.warpAffine(photograph, np.float32([[1, 0, shift[0]], [0, 1, shift[1]]]), photograph.shape[1::-1])
    for index in (1, 2):
        last = mesh.follow(frame_of(moved, index), last)
        assert last is not None
        assert last.frame_index == index
    still = mesh.search(frame_of(photograph))
    assert still is not None
    error = last.landmarks - still.landmarks - np.array(shift)
    assert np.abs(error).mean() < 1.5


def test_follow_loses_a_face_that_is_gone(mesh: MeshDetector, photograph: np.ndarray) -> None:
    last = mesh.search(frame_of(photograph))
    assert last is not None
    assert mesh.follow(frame_of(np.full_like(photograph, 120)), last) is None


def test_a_small_face_is_found_within_one_round_of_tiles(mesh: MeshDetector, photograph: np.ndarray) -> None:
    """A face 100 pixels wide in a picture of 2560 is 7 pixels wide in the first pass, and hidden from it."""
    frame = np.full((1440, 2560, 3), 100, np.uint8)
    small = cv2.resize(photograph[200:480, 400:640], None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    frame[300 : 300 + small.shape[0], 400 : 400 + small.shape[1]] = small
    found = [mesh.search(frame_of(frame)) for _ in range(7)]
    hits = [f for f in found if f is not None]
    assert hits
    assert any(f is None for f in found)
    assert 400 < hits[0].landmarks[:, 0].mean() < 400 + small.shape[1]


def test_a_face_that_fills_the_picture_is_found(mesh: MeshDetector, photograph: np.ndarray) -> None:
    face = cv2.resize(photograph[270:420, 440:590], (720, 720))
    assert any(mesh.search(frame_of(face)) is not None for _ in range(7))


def test_no_face(mesh: MeshDetector) -> None:
    for _ in range(8):
        assert mesh.search(frame_of(np.zeros((360, 640, 3), np.uint8))) is None


class FakeBlaze:
    def __init__(self, boxes: list[list[float]]) -> None:
        self.boxes = boxes

    def find(self, pixels):
        keypoints = np.array([(0, 0), (1, 0), (0, 1), (0, 1), (0, 0), (0, 0)], np.float32)
        return [Candidate(np.array(b, np.float32), keypoints, 0.9) for b in self.boxes]

    def find_in(self, pixels, region):
        return []

    def close(self) -> None: ...


class FakeMesh:
    """Scores by call; a mesh that fills the region."""

    def __init__(self, scores: list[float], spread: float = 0.2) -> None:
        self.scores, self.spread, self.rois = list(scores), spread, []

    def landmarks(self, pixels, roi):
        self.rois.append(roi)
        rng = np.random.default_rng(0)
        mesh = np.array(roi.centre) + rng.normal(0, roi.size * self.spread, (468, 2))
        return mesh.astype(np.float32), np.zeros(468, np.float32), self.scores.pop(0)

    def close(self) -> None: ...


def test_a_denied_best_candidate_is_not_replaced_by_the_next() -> None:
    """The wearer behind a hand, a poster at the side: with the poster swapped, the wearer would go out uncovered."""
    wearer, poster = [100, 100, 200, 200], [300, 100, 380, 180]
    mesh = FakeMesh([0.1, 0.9, 0.8])
    assert MeshDetector(FakeBlaze([poster, wearer]), mesh).search(frame_of(np.zeros((400, 400, 3), np.uint8))) is None
    assert [roi.centre for roi in mesh.rois] == [(150, 150)]


def test_the_second_look_decides() -> None:
    for scores, good in (([0.9, 0.8], True), ([0.9, 0.2], False)):
        detector = MeshDetector(FakeBlaze([[100, 100, 200, 200]]), FakeMesh(scores))
        assert (detector.search(frame_of(np.zeros((400, 400, 3), np.uint8))) is not None) is good


TRACK = [100, 100, 200, 200]


@pytest.mark.parametrize(
    ("boxes", "good"),
    [
        ([], True),  # a turned head is missed by searches
        ([[90, 110, 210, 220]], True),
        ([[160, 160, 220, 220]], True),  # its centre lies in the track
        ([[20, 100, 160, 200]], True),  # its centre does not, but it overlaps by a third
        ([[60, 100, 135, 200]], True),  # the same, by a quarter
        ([[40, 100, 120, 200]], False),  # by an eighth
        ([[300, 100, 390, 190]], False),
        ([[300, 100, 390, 190], [105, 105, 195, 195]], True),
        ([[220, 100, 345, 225], [100, 100, 200, 200]], True),  # larger, but not clearly
        ([[210, 100, 360, 250], [100, 100, 200, 200]], False),
        ([[210, 250, 390, 395], [100, 100, 200, 200]], False),
        ([[0, 0, 0, 0], [100, 100, 200, 200]], True),
    ],
)
def test_still_the_wearer(boxes: list[list[float]], good: bool) -> None:
    faces = np.array(boxes, np.float32).reshape(-1, 4)
    assert still_the_wearer(faces, np.array(TRACK, np.float32), (400, 400)) is good
    mesh = FakeMesh([])
    detection = Detection(3, np.array(TRACK, np.float32), np.zeros((468, 2), np.float32), "mesh468", 0.9)
    frame = frame_of(np.zeros((400, 400, 3), np.uint8))
    assert MeshDetector(FakeBlaze(boxes), mesh).confirm(frame, detection) is good
    assert mesh.rois == [], "one search network, no mesh"


def test_a_large_face_at_the_edge_does_not_end_a_track_that_a_search_would_take_again() -> None:
    corner, centre = [0, 0, 145, 145], [450, 310, 550, 410]
    boxes = np.array([corner, centre], np.float32)
    assert wearer_first(boxes, 1000, 720)[0] == 1
    assert still_the_wearer(boxes, boxes[1], (1000, 720))


def test_confirm_on_a_photograph(mesh: MeshDetector, photograph: np.ndarray) -> None:
    frame = frame_of(photograph)
    found = mesh.search(frame)
    assert found is not None
    assert mesh.confirm(frame, found)
    nowhere = replace(found, box=np.array([0, 560, 120, 680], np.float32))
    assert not mesh.confirm(frame, nowhere)
    assert mesh.confirm(frame_of(np.full_like(photograph, 120)), found), "nothing seen proves nothing"


def test_the_live_cut_gives_the_mesh_that_personas_were_trained_with(
    mesh: MeshDetector, photograph: np.ndarray
) -> None:
    """Training cuts with OpenCV: faces of half to three times the network's own size, no bias and nothing lost."""
    for scale in (0.5, 1.0, 1.6, 3.0):
        pixels = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        found = mesh.search(frame_of(pixels))
        assert found is not None
        roi = roi_from_mesh(found.landmarks)
        facemesh = mesh._facemesh
        fast, _, score = facemesh.landmarks(pixels, roi)
        cutter, facemesh._cutter = facemesh._cutter, None
        slow, _, slow_score = facemesh.landmarks(pixels, roi)
        facemesh._cutter = cutter
        side = float(np.ptp(slow, axis=0).max())
        assert np.abs((fast - slow).mean(axis=0)).max() < 0.002 * side
        assert np.linalg.norm(fast - slow, axis=1).mean() < 0.004 * side
        assert abs(score - slow_score) < 0.01


def test_a_mesh_of_absurd_size_is_no_face() -> None:
    detector = MeshDetector(FakeBlaze([[100, 100, 200, 200]]), FakeMesh([0.9], spread=5.0))
    assert detector.search(frame_of(np.zeros((400, 400, 3), np.uint8))) is None


def test_follow_refuses_another_layout(mesh: MeshDetector) -> None:
    five = Detection(0, np.zeros(4, np.float32), np.zeros((5, 2), np.float32), "points5", 1.0)
    with pytest.raises(DetectorError):
        mesh.follow(frame_of(np.zeros((50, 50, 3), np.uint8)), five)


@pytest.mark.parametrize(
    ("box", "good"),
    [
        ((10, 10, 60, 60), True), ((10, 10, 20, 20), False), ((-100, 10, -20, 90), False),
        ((600, 440, 700, 540), False), ((-900, -900, 1500, 1300), False), ((-100, -100, 400, 400), True),
    ],
)  # fmt: skip
def test_plausible(box: tuple[float, ...], good: bool) -> None:
    assert plausible(np.array(box, np.float32), (640, 480)) is good


def test_plausible_raises_on_nan() -> None:
    with pytest.raises(DetectorError):
        plausible(np.array([0, 0, np.nan, 1], np.float32), (640, 480))


def test_wearer_first_weighs_size_against_position() -> None:
    middle, corner = [270, 190, 370, 290], [0, 0, 100, 100]
    huge_corner = [0, 0, 250, 250]
    assert wearer_first(np.array([corner, middle], np.float32), 640, 480) == [1, 0]
    assert wearer_first(np.array([middle, huge_corner], np.float32), 640, 480) == [1, 0]


# ---- InsightFace -----------------------------------------------------------------------------------------------------

SIDE = 640
POINTS = np.array([(-4, -4), (4, -4), (0, 0), (-3, 4), (3, 4)], np.float32)


def scrfd(path: Path, *, score: float = 0.9, box: float = 6.0, points: int = 5) -> Path:
    """An SCRFD-shaped graph that sees one face at stride 16 in cell (10, 5), whatever it is shown."""
    weights, nodes, outputs = {}, [], []
    kinds = [("score", 1), ("box", 4), ("kps", 2 * points)]
    for kind, width in kinds:
        for stride in (8, 16, 32):
            cells = (SIDE // stride) ** 2 * 2
            array = np.zeros((cells, width), np.float32)
            if stride == 16:
                row = (5 * (SIDE // 16) + 10) * 2
                array[row] = {"score": score, "box": box, "kps": POINTS.ravel()}[kind]
            name = f"{kind}{stride}"
            weights[f"w_{name}"] = array
            nodes.append(helper.make_node("Add", [f"w_{name}", "nothing"], [name]))
            outputs.append(value(name, cells, width))
    nodes.insert(0, helper.make_node("ReduceMax", ["input.1"], ["top"], keepdims=0))
    weights["zero"] = np.zeros(1, np.float32)
    nodes.insert(1, helper.make_node("Mul", ["top", "zero"], ["nothing"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(build(nodes, [value("input.1", 1, 3, SIDE, SIDE)], outputs, weights).SerializeToString())
    return path


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scrfd(tmp_path_factory.mktemp("pack") / "buffalo_l" / "det_10g.onnx").parent


def test_insightface_search_positions(pack: Path) -> None:
    """A 1280 x 1280 picture is shrunk to half: the cell (10, 5) at stride 16 lies at (320, 160)."""
    detector = InsightDetector(pack)
    found = detector.search(frame_of(np.zeros((1280, 1280, 3), np.uint8), 3))
    assert found is not None
    assert (found.frame_index, found.layout, found.landmarks.shape) == (3, "points5", (5, 2))
    np.testing.assert_allclose(found.box, [320 - 192, 160 - 192, 320 + 192, 160 + 192])
    np.testing.assert_allclose(found.landmarks, np.array([320, 160]) + POINTS * 32)
    assert found.score == pytest.approx(0.9)
    frame = frame_of(np.zeros((1280, 1280, 3), np.uint8), 4)
    assert detector.confirm(frame, found)
    assert not detector.confirm(frame, replace(found, box=np.array([900, 900, 1000, 1000], np.float32)))
    detector.close()


def test_insightface_follow_looks_only_around_the_last_face(pack: Path) -> None:
    """The square is 200 wide from (300, 300): one network pixel is 200 / 640 of a frame pixel."""
    detector = InsightDetector(pack)
    last = Detection(0, np.array([350, 350, 450, 450], np.float32), np.zeros((5, 2), np.float32), "points5", 1.0)
    found = detector.follow(frame_of(np.zeros((1280, 1280, 3), np.uint8), 1), last)
    assert found is not None
    scale = 201 / 640
    np.testing.assert_allclose(found.landmarks, 300 + (np.array([160, 80]) + POINTS * 16) * scale, atol=0.6)
    outside = Detection(0, np.array([-200, 0, -150, 50], np.float32), last.landmarks, "points5", 1.0)
    assert detector.follow(frame_of(np.zeros((480, 640, 3), np.uint8)), outside) is None


def test_insightface_low_score_and_nonsense(tmp_path: Path) -> None:
    frame = frame_of(np.zeros((640, 640, 3), np.uint8))
    assert InsightDetector(scrfd(tmp_path / "a" / "det_1.onnx", score=0.3).parent).search(frame) is None
    blind = InsightDetector(scrfd(tmp_path / "a" / "det_1.onnx", score=0.3).parent)
    five = Detection(0, np.array([10, 10, 90, 90], np.float32), POINTS, "points5", 0.9)
    assert blind.confirm(frame, five)
    with pytest.raises(DetectorError, match="not finite"):
        InsightDetector(scrfd(tmp_path / "b" / "det_1.onnx", box=np.nan).parent).search(frame)


def test_insightface_missing_or_damaged_pack(tmp_path: Path) -> None:
    for place in (None, tmp_path, tmp_path / "none"):
        with pytest.raises(MissingDependencyError) as caught:
            InsightDetector(place)
        assert "personacam models fetch" in caught.value.hint
    (tmp_path / "det_10g.onnx").write_bytes(b"not a network")
    with pytest.raises(DetectorError, match="cannot be loaded"):
        InsightDetector(tmp_path)
    model = build([helper.make_node("Relu", ["x"], ["y"])], [value("x", 1, 3, 7, 7)], [value("y", 1, 3, 7, 7)])
    (tmp_path / "det_10g.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(DetectorError):
        InsightDetector(tmp_path)


def test_detection_file_prefers_the_packs_own(tmp_path: Path) -> None:
    assert detection_file(tmp_path) is None
    (tmp_path / "scrfd_10g_bnkps.onnx").touch()
    assert detection_file(tmp_path) == tmp_path / "scrfd_10g_bnkps.onnx"
    (tmp_path / "det_10g.onnx").touch()
    assert detection_file(tmp_path) == tmp_path / "det_10g.onnx"
