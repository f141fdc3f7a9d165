"""Ensembles: the arithmetic, what is on disk, and that one is a detector like any other."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from madedetectors import save

from deepscan.config import CropSettings, PredictSettings
from deepscan.detector import describe_detector, load_detector
from deepscan.errors import ConfigError, ModelError, OutputError
from deepscan.extract.crops import resized
from deepscan.models import ensemble_folder
from deepscan.models.card import Calibration, EnsembleCard
from deepscan.models.checkpoint import CARD_FILE, WEIGHTS_FILE, load_card
from deepscan.models.ensemble import members_sha256, open_detector, weighted
from deepscan.models.ensemble_folder import distinct_names, save_ensemble
from deepscan.models.scorer import torch_scorer
from deepscan.types import Score

KINDS = {
    "cnn": ("custom_cnn", 48, Calibration(scale=2.0, bias=0.3, frame_scale=0.5, frame_bias=-0.1)),
    "meso": ("meso4", 64, Calibration(scale=0.7, bias=-0.4, frame_scale=1.5, frame_bias=0.2)),
}


def make(folder, kind, *, seed=0, **facts):
    """A detector whose logits differ visibly from crop to crop."""
    backbone, size, calibration = KINDS[kind]
    crop = CropSettings(size_px=size, margin=0.2)
    about = {"data": [{"name": "made"}], "limits": ["not for use", kind]}
    return save(folder, backbone, seed, **{"name": kind, "crop": crop, "calibration": calibration, **about, **facts})


@pytest.fixture
def members(tmp_path):
    return [make(tmp_path / "a", "cnn"), make(tmp_path / "b", "meso")]


def sequence(n, seed=0, side=64):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# The arithmetic


def test_combining_is_the_weighted_mean_of_calibrated_logits(members):
    calibrations = [
        Calibration(scale=2, bias=1, frame_scale=0.5, frame_bias=0.25),
        Calibration(scale=1, bias=0, frame_scale=3, frame_bias=-1),
    ]
    one, two = (
        replace(open_detector(folder), card=load_card(folder).model_copy(update={"calibration": calibration}))
        for folder, calibration in zip(members, calibrations, strict=True)
    )
    both = weighted([one, two], [0.25, 0.75], one.card)
    combined = both.combine([Score(1.0, np.array([1.0, -2.0])), Score(-3.0, np.array([0.0, 4.0]))])
    assert combined.video_logit == pytest.approx(0.25 * 3 + 0.75 * -3)
    np.testing.assert_allclose(combined.frame_logits, [0.25 * 0.75 + 0.75 * -1, 0.25 * -0.75 + 0.75 * 11])
    assert len(weighted([one, two], [0, 1], one.card).parts) == 1  # what has no share is not run


def test_it_scores_as_its_members_do(members, tmp_path):
    """Each member sees crops of its own size; sequences keep their lengths."""
    save_ensemble(tmp_path / "all", members, name="both", weights=[3, 1])
    networks = open_detector(tmp_path / "all")
    assert networks.card.crop == CropSettings(size_px=64, margin=0.2)
    sequences = [sequence(3), sequence(1, seed=1)]
    scorer = torch_scorer(networks)
    scored = scorer.score(sequences)
    assert [len(score.frame_logits) for score in scored] == [3, 1]
    video, frames = 0.0, np.zeros(3)
    for folder, share in zip(members, (0.75, 0.25), strict=True):
        part = open_detector(folder)
        calibration = part.card.calibration
        (alone,) = torch_scorer(part).score([resized(sequences[0], part.card.crop.size_px)])
        video += share * (alone.video_logit * calibration.scale + calibration.bias)
        frames += share * (alone.frame_logits * calibration.frame_scale + calibration.frame_bias)
        assert abs(alone.video_logit - scored[0].video_logit) > 0.01  # the members do not say the same
    assert scored[0].video_logit == pytest.approx(video, rel=1e-5)
    np.testing.assert_allclose(scored[0].frame_logits, frames, rtol=1e-5)
    assert scorer.score([]) == []


def test_without_tta_no_member_uses_it(members, tmp_path):
    save_ensemble(tmp_path / "all", members, name="both")
    networks = open_detector(tmp_path / "all")
    with_views, without = (torch_scorer(networks, tta=tta).score([sequence(2)])[0] for tta in (True, False))
    assert with_views.video_logit != pytest.approx(without.video_logit, abs=1e-6)


def test_resizing():
    crops = np.zeros((2, 64, 64, 3), np.uint8)
    crops[:, ::2] = 200
    assert resized(crops, 64) is crops
    assert resized(crops, 32).shape == (2, 32, 32, 3)
    assert (resized(crops, 32) == 100).all()  # averaged, not picked
    assert resized(crops, 100).shape == (2, 100, 100, 3)


def test_parameters_are_those_of_all_members(members, tmp_path):
    save_ensemble(tmp_path / "all", members, name="both")
    parts = [open_detector(folder) for folder in members]
    assert open_detector(tmp_path / "all").n_parameters == sum(part.n_parameters for part in parts) > 0


# On disk


def test_what_is_saved(members, tmp_path):
    (members[0] / "groups.txt").write_text("0123456789abcdef\n")
    (members[0] / "last.ckpt").write_text("not copied")
    out = tmp_path / "all"
    calibration = Calibration(scale=1.2, bias=0.1, threshold=0.6, uncertain_low=0.4, uncertain_high=0.7)
    card = save_ensemble(out, members, name="both", calibration=calibration, training={"shares": "equal"})
    assert load_card(out) == card
    assert isinstance(card, EnsembleCard)
    assert (card.backbone, card.head) == ("custom_cnn + meso4", "mean")
    assert card.calibration == calibration
    assert card.trained
    assert card.training["shares"] == "equal"
    assert card.limits == ["not for use", "cnn", "meso"]
    assert card.data == [{"name": "made"}]
    assert [member.weight for member in card.members] == [0.5, 0.5]
    assert card.weights_sha256 == members_sha256(card.members)
    for entry, source in zip(card.members, members, strict=True):
        for name in (CARD_FILE, WEIGHTS_FILE):
            assert (out / entry.folder / name).read_bytes() == (source / name).read_bytes()
    names = {name.rsplit("/", 1)[-1] for name in tree(out)}
    assert names == {CARD_FILE, WEIGHTS_FILE, "groups.txt"}


def test_shares_and_weights_make_its_sha256(members, tmp_path):
    shas = [
        save_ensemble(tmp_path / name, members, name="x", weights=weights).weights_sha256
        for name, weights in (("one", (1, 1)), ("two", (1, 2)), ("three", (5, 5)))
    ]
    assert shas[0] == shas[2] != shas[1]
    other = make(tmp_path / "c", "cnn", seed=5)
    assert save_ensemble(tmp_path / "four", [other, members[1]], name="x").weights_sha256 not in shas


def test_without_calibration_it_promises_no_more_than_its_members(tmp_path):
    one = Calibration(threshold=0.4, uncertain_low=0.3, uncertain_high=0.5)
    two = Calibration(threshold=0.6, uncertain_low=0.5, uncertain_high=0.9)
    folders = [
        make(tmp_path / "a", "cnn", calibration=one),
        make(tmp_path / "b", "meso", calibration=two),
    ]
    calibration = save_ensemble(tmp_path / "all", folders, name="x").calibration
    assert (calibration.scale, calibration.bias, calibration.uncertain_low, calibration.uncertain_high) == (
        1,
        0,
        0.3,
        0.9,
    )
    assert calibration.threshold == pytest.approx(0.5)


def test_an_ensemble_can_be_a_member(members, tmp_path):
    inner, third = tmp_path / "inner", make(tmp_path / "c", "cnn", seed=3)
    save_ensemble(inner, members, name="inner", calibration=Calibration(scale=2, bias=1))
    save_ensemble(tmp_path / "outer", [inner, third], name="outer")
    shutil.rmtree(inner)
    crops = [sequence(2)]
    outer = open_detector(tmp_path / "outer")
    logit = torch_scorer(outer).score(crops)[0].video_logit
    inside = open_detector(tmp_path / "outer" / outer.card.members[0].folder)
    one = torch_scorer(inside).score(crops)[0].video_logit * 2 + 1
    two = torch_scorer(open_detector(third)).score([resized(crops[0], 48)])[0].video_logit * 2 + 0.3
    assert logit == pytest.approx((one + two) / 2, rel=1e-5)


def test_saving_again_replaces_and_leaves_nothing_behind(members, tmp_path):
    out = tmp_path / "all"
    save_ensemble(out, members, name="x")
    other = make(tmp_path / "c", "cnn", seed=5)
    save_ensemble(out, [other, members[1]], name="y")
    assert open_detector(out).card.name == "y"
    assert len(list((out / "members").iterdir())) == 2


def test_an_interrupted_save_leaves_the_old_one(members, tmp_path, monkeypatch):
    out = tmp_path / "all"
    save_ensemble(out, members, name="x")
    before = tree(out)
    other = make(tmp_path / "c", "cnn", seed=5)

    def killed(source, target):
        if source.name == WEIGHTS_FILE:
            raise OSError(28, "No space left on device")
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr(ensemble_folder.shutil, "copyfile", killed)
    with pytest.raises(OutputError, match="No space left"):
        save_ensemble(out, [other, members[1]], name="y")
    assert tree(out) == before
    assert open_detector(out).card.name == "x"


def test_a_damaged_copy_is_made_again(members, tmp_path):
    out = tmp_path / "all"
    card = save_ensemble(out, members, name="x")
    (out / card.members[0].folder / WEIGHTS_FILE).write_bytes(b"cut off")
    save_ensemble(out, members, name="x")
    assert open_detector(out).card.name == "x"


# Refusals


def test_other_crop_rules_are_refused(members, tmp_path):
    other = make(tmp_path / "c", "cnn", seed=1, crop=CropSettings(size_px=48, margin=0.3))
    with pytest.raises(ConfigError, match=r"margin 0\.2.*margin 0\.3"):
        save_ensemble(tmp_path / "all", [members[0], other], name="x")
    assert not (tmp_path / "all").exists()


def test_too_few_and_one_twice(members, tmp_path):
    with pytest.raises(ConfigError, match="at least two"):
        save_ensemble(tmp_path / "all", members[:1], name="x")
    shutil.copytree(members[0], tmp_path / "copy")
    with pytest.raises(ConfigError, match="have the same weights"):
        save_ensemble(tmp_path / "all", [members[0], tmp_path / "copy"], name="x")


@pytest.mark.parametrize("weights", [(1,), (1, -1), (0, 0), (1, float("nan"))])
def test_shares_that_are_none(members, tmp_path, weights):
    with pytest.raises(ConfigError, match="Invalid weights"):
        save_ensemble(tmp_path / "all", members, name="x", weights=weights)


def test_a_folder_with_something_else_is_left_alone(members, tmp_path):
    before = tree(members[1])
    with pytest.raises(OutputError, match="something else"):
        save_ensemble(members[1], members, name="x")
    assert tree(members[1]) == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="it is a file"):
        save_ensemble(tmp_path / "file", members, name="x")


def test_an_exchanged_member_is_refused(members, tmp_path):
    out = tmp_path / "all"
    member = out / save_ensemble(out, members, name="x").members[0].folder
    shutil.rmtree(member)
    make(member, "cnn", seed=9)
    with pytest.raises(ModelError, match="was exchanged"):
        open_detector(out)


def edit(folder, change):
    card = json.loads((folder / CARD_FILE).read_text())
    change(card)
    (folder / CARD_FILE).write_text(json.dumps(card))


def test_a_damaged_or_missing_member(members, tmp_path):
    out = tmp_path / "all"
    member = out / save_ensemble(out, members, name="x").members[1].folder
    data = bytearray((member / WEIGHTS_FILE).read_bytes())
    data[-1] ^= 1
    (member / WEIGHTS_FILE).write_bytes(data)
    with pytest.raises(ModelError, match="damaged or was exchanged"):
        open_detector(out)
    shutil.rmtree(member)
    with pytest.raises(ModelError, match="cannot be read"):
        open_detector(out)


def test_shares_changed_by_hand(members, tmp_path):
    save_ensemble(tmp_path / "all", members, name="x")

    def change(card):
        card["members"][0]["weight"], card["members"][1]["weight"] = 0.9, 0.1

    edit(tmp_path / "all", change)
    with pytest.raises(ModelError, match="changed by hand"):
        open_detector(tmp_path / "all")


def test_a_crop_rule_changed_by_hand(members, tmp_path):
    save_ensemble(tmp_path / "all", members, name="x")
    edit(tmp_path / "all", lambda card: card["crop"].update(margin=0.5))
    with pytest.raises(ModelError, match="asks for other crops"):
        open_detector(tmp_path / "all")


@pytest.mark.parametrize("member", ["../b", "/etc", "", ".", "members/../../b", "c:\\x", "a\\b"])
def test_members_outside_are_refused(members, tmp_path, member):
    save_ensemble(tmp_path / "all", members, name="x")
    edit(tmp_path / "all", lambda card: card["members"][1].update(folder=member))
    with pytest.raises(ModelError, match="not a valid model card"):
        open_detector(tmp_path / "all")


def test_a_link_to_itself_is_refused(members, tmp_path):
    out = tmp_path / "all"
    member = out / save_ensemble(out, members, name="x").members[1].folder
    shutil.rmtree(member)
    member.symlink_to(out, target_is_directory=True)
    with pytest.raises(ModelError, match="leads out of the folder"):
        open_detector(out)


def test_where_one_network_is_needed_the_members_are_named(members, tmp_path):
    save_ensemble(tmp_path / "all", members, name="x")
    with pytest.raises(ModelError, match=r"is an ensemble.*members.cnn-"):
        open_detector(tmp_path / "all").single()


# A detector like any other


def test_it_predicts(tmp_path, portrait_image):
    same = CropSettings(size_px=64, margin=0.2)
    members = [make(tmp_path / kind, kind, crop=same, calibration=Calibration(scale=0.05)) for kind in KINDS]
    save_ensemble(tmp_path / "all", members, name="both", weights=[3, 1])
    detector = load_detector(tmp_path / "all", PredictSettings(tta=False))
    assert (detector.info.name, detector.info.backbone, detector.info.head) == ("both", "custom_cnn + meso4", "mean")
    assert describe_detector(tmp_path / "all", detector.settings)[1] == detector.info
    result = detector.predict(portrait_image)
    logits = []
    for folder in members:
        probability = load_detector(folder, PredictSettings(tta=False)).predict(portrait_image).probability
        logits.append(np.log(probability / (1 - probability)))
    assert abs(logits[0] - logits[1]) > 0.01
    logit = np.log(result.probability / (1 - result.probability))
    assert logit == pytest.approx(0.75 * logits[0] + 0.25 * logits[1], abs=1e-3)


def test_untrained_members_make_an_untrained_ensemble(members, tmp_path):
    untrained = make(tmp_path / "c", "cnn", seed=2, trained=False)
    assert not save_ensemble(tmp_path / "all", [untrained, members[1]], name="x").trained
    with pytest.raises(ModelError, match="random weights"):
        load_detector(tmp_path / "all")


def test_members_of_one_name_are_told_apart(tmp_path):
    folders = [make(tmp_path / place, "cnn", seed=seed, name=name) for seed, (place, name) in enumerate(
        [("a", "default"), ("b", "default"), ("c", "other"), ("x/run", "twice"), ("y/run", "twice")]
    )]  # fmt: skip
    card = save_ensemble(tmp_path / "all", folders, name="all")
    names = card.training["members"]
    assert names[:3] == ["default (a)", "default (b)", "other"]
    shas = [load_card(folder).weights_sha256[:12] for folder in folders]
    assert names[3:] == [f"twice (run) ({sha})" for sha in shas[3:]]
    assert distinct_names([load_card(folders[0]), load_card(folders[2])], [folders[0], folders[2]]) == [
        "default",
        "other",
    ]
