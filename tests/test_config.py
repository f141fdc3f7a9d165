"""Settings: what is refused, and the defaults that the documentation states."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from deepscan import config
from deepscan.config import (
    CalibrationSettings,
    CropSettings,
    FaceSettings,
    HeadSettings,
    MediaLimits,
    ModelSettings,
    PredictSettings,
    Settings,
    TrackSettings,
)

ALL = [
    CalibrationSettings,
    FaceSettings,
    TrackSettings,
    CalibrationSettings,
    CropSettings,
    HeadSettings,
    ModelSettings,
    MediaLimits,
    PredictSettings,
]


def test_every_settings_class_is_tested():
    classes = [v for v in vars(config).values() if isinstance(v, type) and issubclass(v, Settings)]
    assert {c for c in classes if c is not Settings} == set(ALL)


@pytest.mark.parametrize("cls", ALL)
def test_unknown_keys_are_refused(cls):
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        cls(no_such_setting=1)


def test_unknown_keys_are_refused_below():
    for data in ({"face": {"min_face": 3}}, {"track": {"gap": 1}}, {"frame": 3}):
        with pytest.raises(ValidationError, match="Extra inputs"):
            PredictSettings.model_validate(data)


@pytest.mark.parametrize("cls", ALL)
def test_settings_do_not_change(cls):
    settings = cls()
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings, next(iter(cls.model_fields)), 1)


@pytest.mark.parametrize("cls", ALL)
def test_settings_come_back_from_json(cls):
    settings = cls()
    assert cls.model_validate_json(settings.model_dump_json()) == settings
    assert cls.model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize("cls", ALL)
def test_every_setting_is_documented(cls):
    documented = re.findall(r"^ {4,8}((?:\w+, )*\w+): ", cls.__doc__ or "", re.MULTILINE)
    names = {name for entry in documented for name in entry.split(", ")}
    if cls is ModelSettings:  # two fields, described in its one line
        names = {word for word in cls.model_fields if word.split("_")[0] in cls.__doc__}
    assert set(cls.model_fields) <= names


@pytest.mark.parametrize("cls", ALL)
def test_defaults_are_within_their_own_limits(cls):
    cls.model_validate(cls().model_dump())


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (FaceSettings, {"min_face_px": 7}),
        (FaceSettings, {"min_confidence": 1.1}),
        (FaceSettings, {"batch_frames": 0}),
        (FaceSettings, {"thresholds": (0.5, 0.5)}),
        (TrackSettings, {"max_gap_frames": -1}),
        (TrackSettings, {"cut_distance": 2}),
        (CropSettings, {"size_px": 16}),
        (CropSettings, {"margin": -0.6}),
        (CropSettings, {"align": "nose"}),
        (HeadSettings, {"name": "gru"}),
        (HeadSettings, {"dropout": 1.0}),
        (HeadSettings, {"hidden": 0}),
        (PredictSettings, {"frames": 0}),
        (PredictSettings, {"frames": 10_001}),
        (PredictSettings, {"threshold": 0}),
        (PredictSettings, {"threshold": 1}),
        (PredictSettings, {"device": "tpu"}),
        (CropSettings, {"margin": float("nan")}),
        (PredictSettings, {"threshold": float("nan")}),
        (HeadSettings, {"bidirectional_layers": 0, "unidirectional_layers": 0}),
    ],
)
def test_out_of_range(cls, values):
    with pytest.raises(ValidationError):
        cls(**values)


def test_defaults():
    settings = PredictSettings()
    assert (settings.frames, settings.tta, settings.threshold) == (32, True, None)
    assert (settings.device, settings.allow_untrained) == ("auto", False)
    assert settings.face == FaceSettings()
    assert settings.track == TrackSettings()
    assert (CropSettings().size_px, CropSettings().align) == (128, "none")
    assert ModelSettings().head == HeadSettings()
    assert HeadSettings().name == "lstm"


def test_the_stacked_form_of_the_docstring_is_valid():
    stated = re.search(r"``(bidirectional_layers=.*?)``", HeadSettings.__doc__, re.DOTALL).group(1)
    values = dict(pair.split("=") for pair in re.split(r",\s*", stated))
    settings = HeadSettings.model_validate(values)
    assert (settings.bidirectional_layers, settings.unidirectional_layers) == (3, 1)
    assert (settings.hidden, settings.dropout, settings.dense) == (2048, 0.4, 2048)
