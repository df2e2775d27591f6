"""One thread everywhere, folders that no two processes of tests share, and the studio for invented people."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("LP_NUM_THREADS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Two processes that add their first kernels to numba's index at once can each take the other's machine code.
    # Read when numba is imported; kept from run to run.
    folder = Path(os.environ.get("NUMBA_CACHE_DIR", Path(__file__).parents[1] / ".pytest_cache" / "numba"))
    os.environ["NUMBA_CACHE_DIR"] = str(folder / os.environ["PYTEST_XDIST_WORKER"])

import pytest

from engines.errors import MissingDependencyError, RenderError


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory):
    """Engines and imported personas of the tests, and of the programs they start, lie apart from the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERSONACAM_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session")
def renderer():
    """The studio; skips with the reason where there is no OpenGL without a display."""
    try:
        from calibration.people.render import Renderer

        studio = Renderer()
    except (MissingDependencyError, RenderError, ImportError) as error:
        pytest.skip(f"cannot render: {error}")
    yield studio
    studio.close()
