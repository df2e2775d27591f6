"""Options and reports of an enrollment."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.coverage import Coverage
from calibration.enrollment import EnrollOptions, describe, read_report, write_report
from calibration.quality_gates import Fault
from engines.errors import DataError, SettingsError
from tests.calibration.test_coverage import rows


@pytest.mark.parametrize("wrong", [{"frames": 3}, {"size": 16}, {"every": 0}, {"frames": 8, "least": 9}])
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(SettingsError):
        EnrollOptions(**wrong)


def test_a_report_comes_back_and_is_of_one_name(tmp_path):
    found, coverage = rows({"yaw": 20}), Coverage(20)
    coverage.count(found)
    done = describe(
        "ada", tmp_path, coverage, frames=13, seen=40, stopped="end", skipped={Fault.DARK: 3, Fault.ALIKE: 0}
    )
    write_report(done, coverage, found)
    assert read_report(tmp_path, "ada").skipped == {"too dark": 3}
    assert read_report(tmp_path, "ada").missing == done.missing
    assert done.picture.read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(DataError, match="of ada"):
        read_report(tmp_path, "eve")
    done.report.write_text("{}")
    with pytest.raises(DataError):
        read_report(tmp_path, "ada")


def test_a_full_disk_is_said(tmp_path):
    coverage = Coverage(20)
    done = describe("ada", tmp_path / "gone", coverage, frames=0, seen=0, stopped="end", skipped={})
    with pytest.raises(DataError, match="cannot write"):
        write_report(done, coverage, np.zeros((0, 14)))
