"""Who may talk to the page's server."""

from __future__ import annotations

import os
import stat

import pytest

from engines.errors import DataError
from realtime.control import guard

OWN = {"Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:8000"}


@pytest.mark.parametrize("upgrade", [True, False])
def test_the_page_itself_may(upgrade):
    assert guard.refusal(OWN, 8000, upgrade=upgrade) is None
    named = {"Host": "localhost:8000", "Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"}
    assert guard.refusal(named, 8000, upgrade=upgrade) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"Host": "evil.example:8000"}, {"Host": "127.0.0.1"}, {"Host": "127.0.0.1:8001"}, {"Host": ""},
        {"Host": "127.0.0.1.evil.example:8000"}, {"Origin": "http://evil.example"}, {"Origin": "null"},
        {"Origin": "https://127.0.0.1:8000"}, {"Origin": "http://127.0.0.1:9000"}, {"Origin": "http://localhost:8000"},
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
    ],
)  # fmt: skip
def test_others_may_not(changed):
    assert guard.refusal(OWN | changed, 8000, upgrade=True) is not None


def test_a_socket_needs_an_origin_and_a_page_does_not():
    assert guard.refusal({"Host": "127.0.0.1:8000"}, 8000, upgrade=True) == "no Origin"
    assert guard.refusal({"Host": "127.0.0.1:8000"}, 8000, upgrade=False) is None


def test_the_token_is_kept_for_this_user_only(tmp_path):
    path = tmp_path / "folder" / "token"
    token = guard.kept_token(path)
    assert len(token) >= 40
    assert guard.kept_token(path) == token
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    assert guard.kept_token(path) != token


@pytest.mark.parametrize("content", ["", "short", "x" * 40 + "/../", "x" * 20 + "\n" + "y" * 20])
def test_a_damaged_token_is_replaced(tmp_path, content):
    path = tmp_path / "token"
    path.write_text(content)
    token = guard.kept_token(path)
    assert token != content
    assert guard.kept_token(path) == token


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be kept"):
        guard.kept_token(tmp_path / "file" / "token")


def test_a_bucket_lets_so_many_through():
    now = [0.0]
    bucket = guard.Bucket(10.0, 5.0, clock=lambda: now[0])
    assert [bucket.take() for _ in range(7)] == [True] * 5 + [False] * 2
    now[0] += 0.21
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    now[0] += 100.0
    assert sum(bucket.take() for _ in range(20)) == 5


@pytest.mark.parametrize("given", ["", "t" * 42, "t" * 44, "T" * 43, "ü", "\udcff"])
def test_another_token_is_not_the_same(given):
    assert guard.same_token("t" * 43, "t" * 43)
    assert not guard.same_token(given, "t" * 43)


def test_the_policy_of_the_page_lets_nothing_in_from_outside():
    headers = guard.security_headers(8000)
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert "frame-ancestors 'none'" in policy
    assert not any(name.startswith("Access-Control") for name in headers)
    assert headers["Referrer-Policy"] == "no-referrer"  # the token is in the address
