"""What may be said, and what is refused."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from realtime.config import Settings
from realtime.control.state import MAX_COMMAND_BYTES, Adjust, Knob, LiveState, Veil, limits_of, parse_command
from realtime.control.watch import knob_limits


@pytest.mark.parametrize(
    "text",
    [
        '{"do":"veil","on":true}',
        '{"do":"persona","name":"kofi"}',
        '{"do":"persona"}',
        '{"do":"adjust","changes":{"feather":3,"mirror":true,"label_position":"top-left","mic_delay_ms":null}}',
        '{"do":"confirm","number":1,"yes":false}',
    ],
)
def test_a_command_survives_the_way_there(text):
    command = parse_command(text)
    assert parse_command(command.model_dump_json()) == command


def test_the_kind_is_told_by_its_name():
    assert parse_command('{"do":"veil","on":false}') == Veil(do="veil", on=False)
    assert isinstance(parse_command('{"do":"adjust","changes":{"erode":-2}}'), Adjust)


@pytest.mark.parametrize(
    "text",
    [
        "", "nonsense", "[]", "null", "3", '"veil"', "{}", '{"do":"fly"}', '{"do":"veil"}', '{"do":"veil","on":"yes"}',
        '{"do":"veil","on":1}', '{"do":"veil","on":true,"more":1}', '{"do":"persona","name":"../../etc/passwd"}',
        '{"do":"persona","name":"A"}', '{"do":"adjust","changes":{}}', '{"do":"adjust","changes":{"source":"0"}}',
        '{"do":"adjust","changes":{"label":false}}', '{"do":"adjust","changes":{"feather":NaN}}',
        '{"do":"adjust","changes":{"feather":1e999}}', '{"do":"adjust","changes":{"feather":[1]}}',
        '{"do":"adjust","changes":{"label_position":"' + 50 * "x" + '"}}', '{"do":"policy","policy":"none"}',
        '{"do":"runtime","runtime":"torch"}', "[" * 1000, '{"do":"veil","on":true}' + " " * MAX_COMMAND_BYTES,
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_line(text):
    with pytest.raises(ValueError) as refused:
        parse_command(text)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_the_label_cannot_be_switched_off_from_outside():
    """It is no knob, so a page that was taken over cannot remove it."""
    assert "label" not in get_args(Knob)
    assert not {"policy", "card", "source", "sink", "persona"} & set(get_args(Knob))


def test_every_knob_is_an_option_with_limits():
    limits = knob_limits()
    assert set(limits) == set(get_args(Knob))
    for knob, its in limits.items():
        default = Settings.model_fields[knob].default
        if isinstance(default, bool) or default is None:
            continue
        if isinstance(default, str):
            assert default in its.choices
        else:
            assert its.low <= default <= its.high
    assert limits_of(Settings.model_json_schema(), "mic_delay_ms").high == 2000


def test_a_state_is_small():
    assert len(LiveState().model_dump_json()) < 1500
    assert json.loads(LiveState().model_dump_json())["phase"] == "running"
