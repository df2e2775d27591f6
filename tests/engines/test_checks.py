"""The best decoder of a run, and its checks, across interruptions."""

from __future__ import annotations

import pytest
import torch

from engines import checkpoint
from engines.checks import BestSoFar, Check
from engines.errors import DataError
from engines.network import build_decoder, build_encoder


def check(step: int, loss: float) -> Check:
    return Check(step, float(step), loss, 20.0, 0.9, 0.8, 0.1)


def test_what_is_written_is_resumed_up_to_the_step_of_the_state(small_sizes, tmp_path):
    encoder, decoder = build_encoder(small_sizes, seed=0), build_decoder(small_sizes, seed=1)
    best = BestSoFar(tmp_path)
    assert best.check is None
    with pytest.raises(RuntimeError, match="check"):
        best.kept()
    best.history += [check(0, 3.0), check(5, 1.0), check(10, 2.0)]
    best.keep(best.history[1], decoder)
    assert best.write(encoder, {"persona": "nia"}) is decoder
    again = BestSoFar(tmp_path)
    again.resume(5, torch.device("cpu"))
    assert [c.step for c in again.history] == [0, 5]  # what came later is learned once more
    assert again.check == check(5, 1.0)
    found, meta = checkpoint.load_decoder(tmp_path / "decoder")
    assert (meta["persona"], meta["step"]) == ("nia", 5)
    assert meta["encoder_sha256"] == checkpoint.load_encoder(tmp_path / "encoder")[1]["sha256"]
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), decoder.parameters(), strict=True))
    (tmp_path / "history.json").unlink()
    with pytest.raises(DataError, match=r"history\.json"):
        again.resume(5, torch.device("cpu"))
