"""Training runs: they learn, they resume exactly, and their folder says what was done."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from madestores import order_store, pairs_store
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score

from deepscan.datasets.dataset import read_samples
from deepscan.errors import ConfigError, ModelError, OutputError
from deepscan.extract.video.sampling import evenly
from deepscan.models.network import DetectorNetwork
from deepscan.runtimes import processor
from deepscan.train import batches
from deepscan.train.callbacks import moved_towards, read_epochs
from deepscan.train.fit import Machine, load_checkpoint, pick_precision, train_network
from deepscan.train.initial_weights import initial_network, teacher_network
from deepscan.train.lightning_module import DetectorModule
from deepscan.train.losses import total_loss
from deepscan.train.recipe import dump_recipe, load_recipe, parse_recipe

STAGE = {"batch_size": 8, "warmup_steps": 4, "learning_rate": 1e-3, "loss": {"ranking": 1.0}}
# In the same precision on every machine: bf16 is imitated where the processor has none.
SMALL = {
    "model": {"backbone": "custom_cnn", "head": {"name": "mean"}},
    "crop": {"size_px": 32},
    "checkpoint_steps": 3,
    "precision": "32",
}
PRECISIONS = ("32", "bf16")


def recipe(*stages, **changes):
    return parse_recipe({**SMALL, "stages": [{**STAGE, **stage} for stage in stages or ({},)], **changes})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return read_samples(pairs_store(tmp_path_factory.mktemp("made"), n=40))


def scores(network, samples):
    network.eval()
    labels, logits = [], []
    with torch.inference_mode():
        for sample in samples.samples:
            crops = sample.crops(evenly(len(sample), 8), 32)
            x = torch.from_numpy(crops).movedim(-1, 1).float().div(255).sub(0.45).div(0.225).unsqueeze(0)
            logits.append(float(network(x).video_logit))
            labels.append(sample.label)
    return np.array(labels), np.array(logits)


class KilledError(Exception):
    pass


def killed_at(monkeypatch, step, stage="train"):
    """The batch of this step of a stage is never made."""
    make = batches.BatchMaker.make

    def stopping(self, at, rank=0):
        if at == step and self.stage.name == stage:
            raise KilledError
        return make(self, at, rank)

    monkeypatch.setattr(batches.BatchMaker, "make", stopping)


@pytest.mark.parametrize(
    ("stage", "step"),
    [("train", 4), ("second", 4), *(pytest.param("train", n, marks=pytest.mark.slow) for n in (6, 8))],
)
def test_a_run_that_is_killed_ends_as_if_it_had_not_been(tmp_path, made, whole_run, monkeypatch, stage, step):
    """Six batches an epoch, checkpoints every three updates: within, at the end and at the beginning of an epoch."""
    plan, whole = whole_run
    with monkeypatch.context() as patch:
        killed_at(patch, step, stage)
        with pytest.raises(KilledError):
            train_network(plan, made, tmp_path / "run")
    resumed = train_network(plan, made, tmp_path / "run", resume=True)
    same_weights(resumed, whole)
    one, other = (read_epochs(run / "second" / "metrics.csv") for run in (whole, tmp_path / "run"))
    assert one == other
    one, other = (read_epochs(run / "train" / "metrics.csv") for run in (whole, tmp_path / "run"))
    assert one == other
    assert [row["step"] for row in one] == [6, 12]


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("sgd", marks=pytest.mark.slow)])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_gradients_are_clipped_in_every_precision(tmp_path, made, precision, optimizer):
    """To next to nothing: then the weights stay where they are, and without it they do not."""
    moved = {}
    for clip_norm in (0.0, 1e-12):
        stage = {"optimizer": optimizer, "clip_norm": clip_norm, "epochs": 1, "steps_per_epoch": 2, "weight_decay": 0.0}
        plan = recipe(stage, precision=precision)
        torch.manual_seed(plan.seed)
        before = DetectorNetwork(plan.model).frame_classifier.weight
        after = train_network(plan, made, tmp_path / str(clip_norm)).frame_classifier.weight
        moved[clip_norm] = float((after - before).detach().abs().max())
    assert moved[0.0] > 1e-4
    assert moved[1e-12] < 1e-6


@pytest.mark.parametrize(
    ("setting", "has_bf16", "expected"),
    [
        ("auto", True, "bf16-mixed"),
        ("auto", False, "32-true"),
        ("32", True, "32-true"),
        ("bf16", False, "bf16-mixed"),
        ("16", False, "16-mixed"),
    ],
)
def test_which_precision_it_is(monkeypatch, setting, has_bf16, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(processor, "cpu_has_bf16", lambda: has_bf16)
    assert pick_precision(recipe(precision=setting)) == expected


def test_training_in_bf16_is_another_run_that_is_resumed_exactly(tmp_path, made, monkeypatch):
    plans = [recipe({"epochs": 1, "ema": 0.9}, precision=precision) for precision in PRECISIONS]
    full, whole = (train_network(p, made, tmp_path / p.precision).state_dict() for p in plans)
    with monkeypatch.context() as patch:
        killed_at(patch, 4)
        with pytest.raises(KilledError):
            train_network(plans[1], made, tmp_path / "run")
    resumed = train_network(plans[1], made, tmp_path / "run", resume=True).state_dict()
    assert all(value.dtype != torch.bfloat16 and torch.equal(value, resumed[name]) for name, value in whole.items())
    assert any(not torch.equal(value, full[name]) for name, value in whole.items())


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, made):
    """Two stages, uninterrupted."""
    plan = recipe(
        {"epochs": 2, "ema": 0.9}, {"name": "second", "epochs": 1, "sequence_length": 2, "freeze_backbone": True}
    )
    run = tmp_path_factory.mktemp("whole") / "run"
    train_network(plan, made, run)
    return plan, run


def same_weights(network, run):
    expected = load_file(run / "second" / "final.safetensors")
    for name, value in network.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_a_finished_stage_is_not_trained_again(made, whole_run, monkeypatch):
    plan, run = whole_run
    killed_at(monkeypatch, 0)
    same_weights(train_network(plan, made, run, resume=True), run)


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_a_checkpoint_that_carries_code_is_refused_when_a_run_is_resumed(tmp_path, made, monkeypatch):
    """A run's folder from somebody else: killed after its first stage's first epoch."""
    plan, run, marker = recipe({"epochs": 2}), tmp_path / "run", tmp_path / "marker"
    with monkeypatch.context() as patch:
        killed_at(patch, 8)
        with pytest.raises(KilledError):
            train_network(plan, made, run)
    (checkpoint,) = run.rglob("last.ckpt")
    torch.save(torch.load(checkpoint, weights_only=True) | {"bomb": Bomb(marker)}, checkpoint)
    with pytest.raises(ConfigError, match=r"last\.ckpt cannot be read as a checkpoint: it holds more than numbers"):
        train_network(plan, made, run, resume=True)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"text", {"state_dict": 3}, {"weights": {}}])
def test_what_is_no_checkpoint_is_told_in_one_line(tmp_path, content):
    file = tmp_path / "best.ckpt"
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(ConfigError, match=r"best\.ckpt cannot be read as a checkpoint"):
        load_checkpoint(DetectorNetwork(recipe().model), file)


def test_a_folder_holds_one_run(made, whole_run):
    plan, run = whole_run
    with pytest.raises(ConfigError, match="holds a run already"):
        train_network(plan, made, run)
    with pytest.raises(ConfigError, match="another recipe"):
        train_network(plan.model_copy(update={"seed": 5}), made, run, resume=True)
    assert load_recipe(run / "recipe.yaml") == plan
    assert len((run / "groups.txt").read_text().split()) == len({s.group for s in made.split("train").samples})


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_died_before_its_first_checkpoint_is_none(tmp_path, made, monkeypatch, resume):
    first, second = recipe({"epochs": 1, "steps_per_epoch": 1}), recipe({"name": "other", "epochs": 1}, seed=5)
    with monkeypatch.context() as patch:
        killed_at(patch, 0)
        with pytest.raises(KilledError):
            train_network(first, made, tmp_path / "run")
    train_network(second, made, tmp_path / "run", resume=resume)
    assert load_recipe(tmp_path / "run" / "recipe.yaml") == second


_HOLDS = """
import sys
from pathlib import Path
from deepscan.append_log import LineFile
with LineFile(Path(sys.argv[1])):
    print(flush=True)
    input()
"""


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_a_run_at_work_keeps_its_folder(tmp_path, made):
    lock = tmp_path / "run.lock"
    with subprocess.Popen([sys.executable, "-c", _HOLDS, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(OutputError, match="another run"):
            train_network(recipe(), made, tmp_path)
        other.communicate(b"\n", timeout=60)
    assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]


def test_what_is_still_to_come_may_be_changed(tmp_path, made, monkeypatch):
    """A stage at a constant rate is made longer, the next stage and the card differ: as if it had been so before."""
    first, second = {"epochs": 1, "schedule": "constant"}, {"name": "second", "epochs": 1, "sequence_length": 2}
    later = recipe({**first, "epochs": 2}, {**second, "learning_rate": 3e-3}, half=True, limits=["Made faces only."])
    whole, run = tmp_path / "whole", tmp_path / "run"
    train_network(later, made, whole)
    with monkeypatch.context() as patch:
        killed_at(patch, 4)
        with pytest.raises(KilledError):
            train_network(recipe(first, second), made, run)
    same_weights(train_network(later, made, run, resume=True), whole)
    assert load_recipe(run / "recipe.yaml") == later


@pytest.mark.parametrize("change", [{"learning_rate": 3e-3}, {"batch_size": 4}, {"name": "other"}])
def test_what_has_been_used_may_not_be_changed(tmp_path, made, monkeypatch, change):
    first = {"epochs": 1, "schedule": "constant"}
    with monkeypatch.context() as patch:
        killed_at(patch, 4)
        with pytest.raises(KilledError):
            train_network(recipe(first), made, tmp_path / "run")
    with pytest.raises(ConfigError, match="another recipe"):
        train_network(recipe({**first, **change}), made, tmp_path / "run", resume=True)


def test_a_stage_may_keep_a_share_of_its_start(tmp_path, made):
    plain, keeping = (recipe({"epochs": 1, "start_share": share}) for share in (0, 0.25))
    torch.manual_seed(plain.seed)
    start = initial_network(plain).state_dict()
    trained = train_network(plain, made, tmp_path / "plain").state_dict()
    kept = train_network(keeping, made, tmp_path / "keeping").state_dict()
    assert any(not torch.equal(value, start[name]) for name, value in trained.items())
    for name, value in trained.items():
        expected = 0.75 * value + 0.25 * start[name] if value.is_floating_point() else value
        assert torch.allclose(kept[name], expected, atol=1e-6), name


def test_the_average_forgets_the_start():
    """After 100 updates next to nothing is left of what it began with, although the decay alone would keep 82 %."""
    average = torch.ones(1)
    for n in range(1, 101):
        average = moved_towards(average, torch.zeros(1), torch.tensor(n), 0.998)
    assert float(average) < 0.02
    steady = moved_towards(torch.ones(1), torch.zeros(1), torch.tensor(10**6), 0.998)
    assert float(steady) == pytest.approx(0.998)
    counted = moved_towards(torch.tensor(3), torch.tensor(4), torch.tensor(9), 0.998)
    assert counted.item() == 4


def learned(samples, tmp_path, **changes):
    """AUC on the test split."""
    plan = recipe({"epochs": 6, "loss": {"ranking": 0.5}, "warmup_steps": 10, "ema": 0.8}, **changes)
    network = train_network(plan, samples, tmp_path / "run")
    labels, logits = scores(network, samples.split("test"))
    return roc_auc_score(labels, logits)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_visible_artefact_is_learned(tmp_path, precision):
    samples = read_samples(pairs_store(tmp_path / "store", n=80))
    assert learned(samples, tmp_path, precision=precision) > 0.95


@pytest.mark.slow
def test_shuffled_labels_teach_nothing(tmp_path):
    """What is measured on held-out groups is not what was seen in training."""
    labels = np.random.default_rng(3).integers(0, 2, 160).astype(bool)
    samples = read_samples(pairs_store(tmp_path / "store", n=160, labels=labels))
    assert abs(learned(samples, tmp_path) - 0.5) <= 0.1


@pytest.mark.slow
def test_time_matters(tmp_path):
    """Frames that are each uninformative, in an order that is not: an LSTM learns it, a mean cannot."""
    samples = read_samples(order_store(tmp_path / "store"))
    stage = {"epochs": 6, "sequence_length": 4, "learning_rate": 2e-3, "loss": {"frame": 0.0, "ranking": 0.0}}
    plain = {"strength": 0.0, **dict.fromkeys(("flip", "blur", "reduction", "noise", "jpeg", "grey", "cutout"), 0.0)}
    aucs = {}
    for head in ("lstm", "mean"):
        model = {"backbone": "custom_cnn", "head": {"name": head, "hidden": 16}}
        plan = recipe(stage, model=model, augment=plain)
        network = train_network(plan, samples, tmp_path / head)
        labels, logits = scores(network, samples.split("val"))
        aucs[head] = roc_auc_score(labels, logits)
    assert aucs["lstm"] > 0.95
    assert aucs["mean"] < 0.75


@pytest.mark.parametrize(
    ("stage", "message"),
    [({"loss": {"region": 1.0}}, "no maps of features"), ({"batch_size": 1}, "batch_size")],
)
def test_what_cannot_be_trained_is_told(tmp_path, made, stage, message):
    with pytest.raises(ConfigError, match=message):
        train_network(recipe(stage), made, tmp_path / "run")


def test_regions_train_a_resnet(tmp_path, made):
    plan = recipe(
        {"epochs": 1, "steps_per_epoch": 2, "loss": {"region": 1.0, "frame": 0.5, "video": 0.0}},
        model={"backbone": "resnet18", "head": {"name": "lstm", "hidden": 8}},
    )
    train_network(plan, made, tmp_path / "run")
    (row,) = read_epochs(tmp_path / "run" / "train" / "metrics.csv")
    assert row["train_region"] > 0
    assert row["train_loss"] == pytest.approx(row["train_region"] + row["train_frame"], abs=1e-4)


def test_a_frozen_backbone_keeps_its_weights_and_statistics(tmp_path, made):
    plan = recipe({"epochs": 1, "freeze_backbone": True, "sequence_length": 2})
    torch.manual_seed(plan.seed)
    before = DetectorNetwork(plan.model).backbone.state_dict()
    after = train_network(plan, made, tmp_path / "run").backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_two_processes_train_together(tmp_path, made):
    """DDP on two CPU processes through Lightning's own launcher."""
    store = made.samples[0].track.path.parent.parent.parent
    config = tmp_path / "plan.yaml"
    config.write_text(dump_recipe(recipe({"epochs": 2})))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "deepscan.cli",
            "train",
            "-c",
            config,
            "-d",
            store,
            "--out",
            tmp_path / "run",
            "--devices",
            "2",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    rows = read_epochs(tmp_path / "run" / "train" / "metrics.csv")
    assert [row["step"] for row in rows] == [3, 6]  # each process took half of the batches
    assert (tmp_path / "run" / "card.json").exists()


@pytest.mark.parametrize("attack", [{"attack": "fgsm"}, {"attack": "pgd", "steps": 2}], ids=["fgsm", "pgd"])
def test_training_on_attacked_crops_is_resumed_exactly(tmp_path, made, monkeypatch, attack):
    stage = {"epochs": 1, "steps_per_epoch": 5}
    plan = recipe(stage, adversarial={"budget": 6, **attack})
    whole = train_network(plan, made, tmp_path / "whole")
    with monkeypatch.context() as patch:
        killed_at(patch, 4)
        with pytest.raises(KilledError):
            train_network(plan, made, tmp_path / "run")
    resumed = train_network(plan, made, tmp_path / "run", resume=True).state_dict()
    plain = train_network(recipe(stage), made, tmp_path / "plain").state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.state_dict().items())
    assert any(not torch.equal(value, plain[name]) for name, value in whole.state_dict().items())


@pytest.mark.parametrize("video", [0.0, 1.0])
@pytest.mark.parametrize("share", [1.0, 1e-9])
def test_attacked_batches_raise_the_loss_within_the_budget(made, video, share):
    """The network is left as it was: batch statistics, modes, gradients."""
    plan = recipe(
        {"sequence_length": 2, "loss": {"video": video, "frame": 1.0}},
        adversarial={"attack": "pgd", "steps": 3, "budget": 6, "share": share},
    )
    torch.manual_seed(0)
    module = DetectorModule(plan, 0, DetectorNetwork(plan.model), 10).train()
    batch = batches.BatchMaker(made.split("train"), plan, 0).make(0)
    batch.mask[0, 1] = False  # a sequence that is shorter
    state = {name: value.clone() for name, value in module.state_dict().items()}
    clean = batch.crops[batch.mask].movedim(-1, 1).float() / 255
    attacked = module.attacked(plan.adversarial, batch)
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert all(part.training for part in module.network.modules())
    assert all(parameter.grad is None for parameter in module.parameters())
    if share < 1:
        assert torch.equal(attacked, clean)
        return
    assert 0 < float((attacked - clean).abs().max()) <= 6 / 255 + 1e-6
    module.network.eval()

    def loss(pixels):
        crops = batch.crops.clone().float()
        crops[batch.mask] = pixels.movedim(1, -1) * 255
        with torch.no_grad():
            out = module(batch._replace(crops=crops))
        return total_loss(plan.stages[0].loss, out.video, out.frames, out.cells, batch)["loss"]

    assert loss(attacked) > loss(clean)


WEIGHTS = {"model": {"backbone": "resnet18", "head": {"name": "lstm", "hidden": 8, "corrects_mean": True}}}


def published(path, network, *, without=(), logit=True):
    """A backbone's weights as others publish them, with a logit or without, some layers left out."""
    state = {k: v.clone() for k, v in network.backbone.net.state_dict().items() if not k.startswith(without or "?")}
    if logit:
        state |= {f"head.{k}": v.clone() for k, v in network.frame_classifier.state_dict().items()}
    save_file(state, path)
    return path


def test_training_starts_from_published_weights_and_says_what_starts_at_random(tmp_path, caplog):
    plan = parse_recipe({**WEIGHTS, "init": "w.safetensors"})
    torch.manual_seed(5)
    other = DetectorNetwork(plan.model)
    published(tmp_path / "w.safetensors", other, without="layer4.0.conv2")
    with caplog.at_level(logging.INFO):
        network = initial_network(plan, tmp_path)
    for name, value in other.state_dict().items():
        same = torch.equal(value, network.state_dict()[name])
        trained_elsewhere = name.startswith(("backbone.", "frame_classifier.")) and "layer4.0.conv2" not in name
        assert same or not trained_elsewhere, name
    assert "at random start: layer4.0.conv2, head" in caplog.text
    # A head that corrects the mean adds nothing before it has learned.
    crops = torch.randn(2, 3, 3, 32, 32)
    with torch.no_grad():
        out = network.eval()(crops, torch.tensor([[True, True, False], [True, True, True]]))
    expected = torch.stack([out.frame_logits[0, :2].mean(), out.frame_logits[1].mean()])
    assert torch.allclose(out.video_logit, expected, atol=1e-5)


def test_of_several_starts_the_first_that_is_there_is_taken(tmp_path):
    plan = parse_recipe({**WEIGHTS, "init": ["not-there.safetensors", "w.safetensors"]})
    published(tmp_path / "w.safetensors", DetectorNetwork(plan.model))
    initial_network(plan, tmp_path)
    with pytest.raises(ModelError, match=r"w\.safetensors"):
        initial_network(plan, tmp_path / "elsewhere")


@pytest.mark.parametrize("broken", [{"conv1.weight": torch.zeros(2, 2)}, {"other.weight": torch.zeros(1)}])
def test_weights_of_another_network_are_refused(tmp_path, broken):
    save_file(broken, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="does not fit"):
        initial_network(parse_recipe({**WEIGHTS, "init": "w.safetensors"}), tmp_path)


def test_a_network_learns_a_teachers_answers(tmp_path, made):
    """The teacher ranks by brightness; labels count nothing here."""
    names = {"model": {"backbone": "resnet18", "head": {"name": "mean"}}, "crop": {"size_px": 32}}
    torch.manual_seed(1)
    teacher = DetectorNetwork(parse_recipe(names).model)
    published(tmp_path / "teacher.safetensors", teacher)
    stage = {**STAGE, "loss": {"video": 0, "frame": 1e-6, "ranking": 0}}
    taught = {"teacher": "teacher.safetensors", "backbone": "resnet18", "weight": 1.0, "maps": 1.0, "size_px": 64}
    plan = parse_recipe({**names, "stages": [stage], "distill": taught})
    network = initial_network(plan)
    module = DetectorModule(plan, 0, network, 20, teacher_network(plan.distill, tmp_path)).train()
    assert not any("teacher" in name for name in module.state_dict())
    batch = batches.BatchMaker(made.split("train"), plan, 0).make(0)
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(12):
        pixels = batch.crops.flatten(0, 1).movedim(-1, 1).float() / 255
        out = module(batch)
        parts = module.distillation(pixels, out.frames[batch.mask], out.maps)
        assert set(parts) == {"distill", "distill_maps"}
        optimizer.zero_grad()
        sum(parts.values()).backward()
        optimizer.step()
        losses.append({name: float(value.detach()) for name, value in parts.items()})
    assert losses[-1]["distill"] < losses[0]["distill"]
    assert losses[-1]["distill_maps"] < 0.9 * losses[0]["distill_maps"]


def test_a_teacher_must_say_what_it_is_and_tell_fakes(tmp_path):
    names = {"model": {"backbone": "resnet18"}}
    network = DetectorNetwork(parse_recipe(names).model)
    published(tmp_path / "w.safetensors", network, logit=False)
    with pytest.raises(ConfigError, match=r"distill\.teacher"):
        teacher_network(parse_recipe({**names, "distill": {"teacher": "w.safetensors"}}).distill, tmp_path)
    with pytest.raises(ModelError, match="cannot teach"):
        taught = {"teacher": "w.safetensors", "backbone": "resnet18"}
        teacher_network(parse_recipe({**names, "distill": taught}).distill, tmp_path)


def test_a_network_of_timm_learns_where(made):
    """The last map of a sixteenth of the side, and the features that come of it."""
    plan = parse_recipe(
        {"model": {"backbone": "timm:mobilenetv2_050", "head": {"name": "mean"}}, "stages": [{"loss": {"region": 1}}]}
    )
    network = DetectorNetwork(plan.model).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features, maps = network.backbone.features_and_maps(x)
        assert torch.allclose(features, network.backbone(x), atol=1e-6)
    assert [m.shape for m in maps] == [(2, network.backbone.map_channels[0], 4, 4)]
    module = DetectorModule(plan, 0, network, 10).train()
    batch = batches.BatchMaker(made.split("train"), recipe({"loss": {"region": 1.0}}), 0).make(0)
    cells = module(batch).cells
    assert [c.shape for c in cells] == [(8, 2, 2)]


def test_the_bar_says_the_step_of_all_and_leaves_stdout_alone(tmp_path, made, capsys):
    plan = recipe({"epochs": 2, "steps_per_epoch": 2, "batch_size": 2})
    train_network(plan, made, tmp_path / "run", Machine(progress=True))
    out, err = capsys.readouterr()
    assert "step=4 of 4" in err
    assert "step=" not in out


def test_the_log_tells_how_fast_it_is(tmp_path, made, caplog):
    plan = recipe({"epochs": 1, "steps_per_epoch": 104, "batch_size": 2})
    with caplog.at_level(logging.INFO):
        train_network(plan, made, tmp_path / "run")
    assert re.search(r"stage 1 of 1 \(train\): 104 steps of 2 images, (32-true|bf16-mixed);", caplog.text)
    assert re.search(r"training on \S+, 1 processes, (32-true|bf16-mixed)", caplog.text)
    assert re.search(r"this stage ends in about 0:\d\d:\d\d, at ", caplog.text)
    assert re.search(r"step 100 of 104: \d+ images/s, \d+ % of the matrix peak, \d+ % of the time waiting", caplog.text)
    assert read_epochs(tmp_path / "run" / "train" / "metrics.csv")[0]["images_s"] > 0
