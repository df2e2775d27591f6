"""One thread everywhere, folders that no two processes of tests share, and the studio for invented people."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("LP_NUM_THREADS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Two processes that add their first kernels to numba's index at once can each take the other's machine code.
    # Read when numba is imported; kept from run to run.
    _shared = Path(os.environ.get("NUMBA_CACHE_DIR", Path(__file__).parents[1] / ".pytest_cache" / "numba"))
    os.environ["NUMBA_CACHE_DIR"] = str(_shared / os.environ["PYTEST_XDIST_WORKER"])
# Engines and imported personas of the tests, and of the programs they start, lie apart from the user's own.
os.environ["PERSONACAM_CACHE"] = os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="personacam-tests-")

import pytest

from engines.errors import MissingDependencyError, RenderError

OWN_FOLDER = Path(os.environ["PERSONACAM_CACHE"])


def pytest_unconfigure() -> None:
    shutil.rmtree(OWN_FOLDER, ignore_errors=True)


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
