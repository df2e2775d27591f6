from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engines.faceset import FaceSet, read_faceset
from engines.network import NetworkConfig
from tests.engines.synthetic import write_cartoons


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small_sizes() -> NetworkConfig:
    return NetworkConfig(
        tier="test", input_size=32, output_size=32, code_size=24, stem_width=0, encoder_widths=(16, 24, 32),
        encoder_residuals=(False, False, True), grid=4, grid_width=32, decoder_widths=(24, 16),
    )  # fmt: skip


@pytest.fixture(scope="session")
def cartoon_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cartoons(tmp_path_factory.mktemp("cartoons"), states=192)


@pytest.fixture(scope="session")
def cartoons(cartoon_folder: Path) -> FaceSet:
    return read_faceset(cartoon_folder)
