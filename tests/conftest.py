"""One thread everywhere, and the studio that tests of invented people share."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("LP_NUM_THREADS", "1")

import pytest

from engines.errors import MissingDependencyError, RenderError


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
