"""What a training run does: the settings of a recipe, one source of defaults for YAML, ``--set`` and docs.

A recipe names a network and one or more stages. A stage trains for a number of epochs on single crops or on sequences;
the next goes on with its weights. Unknown keys are refused with the nearest known one named.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from deepscan.config import CalibrationSettings, CropSettings, ModelSettings, Settings
from deepscan.datasets.training_sources import SourceSettings
from deepscan.errors import ConfigError

RECIPES = Path(__file__).parents[1] / "recipes"

Optimizer = Literal["adamw", "adam", "rmsprop", "sgd"]
Schedule = Literal["cosine", "constant", "step", "plateau"]
# YAML, and so --set, makes an integer of 32.
Precision = Annotated[
    Literal["auto", "32", "bf16", "16"], BeforeValidator(lambda value: str(value) if type(value) is int else value)
]


def _refuse_repeated(kind: str, names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise ValueError(f"{kind} need different names, not {', '.join(names)}")


class DataSettings(Settings):
    """What batches are made of.

    Attributes:
        sources: the corpora below the folder that ``--data`` gives; empty takes what ``--data`` names.
        exclude: file below the folder that ``--data`` gives, a line for each group that nothing may be trained or
            tuned on: the first 16 hex digits of the sha256 of its name. Sources that hold one are refused.
        pairs: a real and a fake made from it in one batch, cut and augmented alike, where there are such.
        self_blend: share of the fakes that are blended from a real of the batch instead of taken from the data; 1
            trains on reals alone.
        simulate_motion: turn a still into a sequence by moving and re-coding it.
        mixup: strength of the mixup of a real with its aligned fake (parameter of the Beta distribution); 0 for none.
        balance: what is drawn equally often: labels, and within a label methods, sources, or, of collections, families
            of manipulations and the origins in each.
        source_shares: how often samples of a source (a dataset, or one of ``sources``) are drawn, by its name; those
            not named share the rest by size.
        motion_jitter: whether self-blended sequences vary from frame to frame, as a frame-wise swap does.
        least_change: an aligned fake that nowhere differs from its real by so many grey levels (smoothed) is no fake to
            look at, whatever its label (its sound was changed, or another person); such pairs are drawn again.
    """

    sources: tuple[SourceSettings, ...] = ()
    exclude: str | None = None
    pairs: bool = True
    self_blend: float = Field(0.0, ge=0, le=1)
    simulate_motion: bool = True
    mixup: float = Field(0.0, ge=0)
    balance: Literal["none", "label", "method", "source", "family"] = "method"
    source_shares: dict[str, float] = Field(default_factory=dict)
    motion_jitter: bool = True
    least_change: float = Field(0.0, ge=0, le=255)

    @property
    def shares(self) -> dict[str, float]:
        """How often samples of a dataset are drawn, where that is given."""
        named = {source.name: source.share for source in self.sources if source.share is not None}
        return {**named, **self.source_shares}

    @model_validator(mode="after")
    def _sources_differ(self) -> Self:
        _refuse_repeated("sources", [source.name for source in self.sources])
        return self


class AugmentSettings(Settings):
    """How often each change is made to a crop, and how far it goes; ``deepscan.train.augment`` says what they do.

    Attributes:
        strength: scales the range of every change; 0 gives the plain crop, resized.
        flip, blur, reduction, noise, jpeg, h264, grey, cutout: chances.
    """

    strength: float = Field(1.0, ge=0, le=2)
    flip: float = Field(0.5, ge=0, le=1)
    blur: float = Field(0.1, ge=0, le=1)
    reduction: float = Field(0.15, ge=0, le=1)
    noise: float = Field(0.1, ge=0, le=1)
    jpeg: float = Field(0.4, ge=0, le=1)
    h264: float = Field(0.0, ge=0, le=1)
    grey: float = Field(0.04, ge=0, le=1)
    cutout: float = Field(0.05, ge=0, le=1)


class AdversarialSettings(Settings):
    """Training on attacked crops; ``deepscan.evaluate.robustness.attacks`` says what the attacks are.

    Attributes:
        attack: ``fgsm`` takes one step from a random start, ``pgd`` several.
        budget: largest change of a value, in grey levels.
        share: of the samples of a batch that are attacked; the others stay as they are.
        steps: of ``pgd``; each costs a pass through the network there and back.
    """

    attack: Literal["fgsm", "pgd"] = "fgsm"
    budget: float = Field(4.0, gt=0, le=64)
    share: float = Field(0.5, gt=0, le=1)
    steps: int = Field(1, ge=1, le=100)

    @model_validator(mode="after")
    def _steps_fit(self) -> Self:
        if self.attack == "fgsm" and self.steps != 1:
            raise ValueError(f"fgsm takes one step, not {self.steps}; pgd takes several")
        return self


class DistillSettings(Settings):
    """Learning from another network's answers to the same augmented crops.

    Attributes:
        teacher: a detector (name or folder), or a file of a backbone's weights with the layer ``head``; found as
            ``init`` is.
        backbone: of such a file.
        weight: of the cross-entropy against the teacher's probabilities of single frames.
        maps: weight of the difference from the teacher's maps of features, through a layer that is trained for it.
        size_px: side that the teacher sees; None gives it the crops as they are.
    """

    teacher: str
    backbone: str | None = None
    weight: float = Field(1.0, ge=0)
    maps: float = Field(0.0, ge=0)
    size_px: int | None = Field(None, ge=16, le=1024)


class LossSettings(Settings):
    """Weights of the parts of the loss; all act on logits.

    Attributes:
        video: cross-entropy of the sequence's logit.
        frame: cross-entropy of the frames' logits.
        ranking: within a pair, the fake above its real (person and light cancel out).
        region: where a fake differs from its aligned real, the backbone's cells are fake too; for backbones that give a
            map of features.
        label_smoothing: of the cross-entropies.
    """

    video: float = Field(1.0, ge=0)
    frame: float = Field(0.5, ge=0)
    ranking: float = Field(0.0, ge=0)
    region: float = Field(0.0, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)


class StageSettings(Settings):
    """One stage of training.

    Attributes:
        name: of its files.
        epochs: passes over as many samples as the training split has.
        steps_per_epoch: batches an epoch; None takes the number that passes over the training samples once.
        sequence_length: crops of one sample; 1 trains on single crops.
        batch_size: samples a batch; with pairs half of them are reals and half their fakes.
        accumulate: batches an update.
        size_px: side of the crops; None takes the recipe's.
        freeze_backbone: train the head alone.
        optimizer, learning_rate, weight_decay, momentum: momentum is for ``sgd`` and ``rmsprop``.
        schedule: after the warm-up.
        warmup_steps: updates over which the rate rises from zero.
        clip_norm: of the gradient; 0 leaves it.
        ema: decay of the moving average of the weights that is kept in the end; 0 keeps the last weights.
        start_share: share of the weights that the stage began with in those that it ends with: what the start could do
            and the stage did not train is kept (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).
        patience: epochs without a better ``monitor`` after which the stage ends; 0 never.
        monitor: what "best" means, measured on the validation split.
        loss: of this stage.
    """

    name: str = Field("train", pattern=r"[a-z0-9_]+")
    epochs: int = Field(10, ge=1)
    steps_per_epoch: int | None = Field(None, ge=1)
    sequence_length: int = Field(1, ge=1, le=512)
    batch_size: int = Field(32, ge=2)
    accumulate: int = Field(1, ge=1)
    size_px: int | None = Field(None, ge=16, le=1024)
    freeze_backbone: bool = False
    optimizer: Optimizer = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    schedule: Schedule = "cosine"
    warmup_steps: int = Field(100, ge=0)
    clip_norm: float = Field(5.0, ge=0)
    ema: float = Field(0.0, ge=0, lt=1)
    start_share: float = Field(0.0, ge=0, lt=1)
    patience: int = Field(0, ge=0)
    monitor: Literal["auc", "log_loss", "accuracy"] = "auc"
    loss: LossSettings = LossSettings()


class Recipe(Settings):
    """A whole training run.

    Attributes:
        name, version: of the detector.
        seed: of everything that is drawn.
        model: the network.
        init: detector (name or folder) or weight file that training starts from, of several the first that is there;
            None starts from random weights. A relative path is looked for here, then from the folder that ``--data``
            gives.
        crop: the crop rule that the trained detector will ask of prediction; it must agree with the store's.
        data, augment: how batches are made.
        adversarial: train on attacked crops as well; None does not.
        distill: learn from another network as well, in all stages that train the backbone; None does not.
        stages: one after the other.
        folds: cross-validation by group; from 2 on, one detector a fold and their ensemble.
        precision: ``auto`` is bf16 where the processor or GPU has it, else 32.
        checkpoint_steps: updates between checkpoints within an epoch.
        calibration: at the end.
        half: keep the weights in half precision; what is measured then are these.
        limits: sentences for the card: known failures, and what the detector is not for.
    """

    name: str = Field("detector", pattern=r"[A-Za-z0-9_.-]+")
    version: str = Field("1", pattern=r"[A-Za-z0-9_.-]+")
    seed: int = 0
    model: ModelSettings = ModelSettings()
    init: str | tuple[str, ...] | None = None
    crop: CropSettings = CropSettings()
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    adversarial: AdversarialSettings | None = None
    distill: DistillSettings | None = None
    stages: tuple[StageSettings, ...] = Field((StageSettings(),), min_length=1)
    folds: int = Field(1, ge=1, le=20)
    precision: Precision = "auto"
    checkpoint_steps: int = Field(200, ge=1)
    calibration: CalibrationSettings = CalibrationSettings()
    half: bool = False
    limits: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _stages_differ(self) -> Self:
        _refuse_repeated("stages", [stage.name for stage in self.stages])
        return self


def find_recipe(name: str) -> Path:
    """The file of a recipe: the path of one, or the name of one that came with the package.

    Raises:
        ConfigError: it is neither; the nearest names are in the message.
    """
    if os.path.lexists(name) and not Path(name).is_dir():
        return Path(name)
    recipes = {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}
    if name in recipes:
        return recipes[name]
    near = difflib.get_close_matches(Path(name).name.removesuffix(".yaml"), recipes, cutoff=0.5)
    raise ConfigError(
        f"--config {name} is no file and no recipe",
        f"the nearest names are {', '.join(near)}" if near else "",
        "`deepscan recipes` lists them.",
    )


def list_recipes() -> dict[str, tuple[str, Recipe]]:
    """The recipes that came with the package by name, each with its first comment line."""
    recipes = {}
    for path in sorted(RECIPES.glob("*.yaml")):
        first = path.read_text(encoding="utf-8").split("\n", 1)[0]
        recipes[path.stem] = first.removeprefix("#").strip(), load_recipe(path)
    return recipes


def load_recipe(path: Path, changes: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: a YAML file.
        changes: of single settings, as ``--set`` takes them: ``stages.0.epochs=3``, ``model.backbone=resnet50``; the
            value is YAML.

    Raises:
        ConfigError: the file cannot be read, a key is unknown (the nearest known one is named) or a value impossible.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read", error.strerror or str(error), "Check --config.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML", " ".join(str(error).split()), "Mend the line that it names.") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} is no recipe", "it is not a list of settings", "See docs/training.md for the settings."
        )
    for change in changes:
        _apply(content, change)
    return parse_recipe(content, str(path))


def parse_recipe(content: Mapping[str, Any], name: str = "recipe") -> Recipe:
    """A recipe from plain values; raises ConfigError as :func:`load_recipe`."""
    # Two settings that older recipes have, and that never did anything.
    content = {key: value for key, value in content.items() if key != "tta"}
    if isinstance(content.get("data"), dict):
        content["data"] = {key: value for key, value in content["data"].items() if key != "workers"}
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{name}: {_message(error)}", hint="See docs/training.md for the settings.") from error


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML that :func:`load_recipe` reads."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _apply(content: dict[str, Any], change: str) -> None:
    key, separator, text = change.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {change!r} is no setting", "it must be KEY=VALUE", "For example stages.0.epochs=3.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {change!r}: the value is no YAML", " ".join(str(error).split())) from error
    if key.strip() in ("name", "version"):  # texts also where YAML sees a number: 0.10 is not 0.1
        value = value if isinstance(value, str) else text.strip()
    *path, last = key.strip().split(".")
    node: Any = content
    for depth, part in enumerate([*path, last]):
        if isinstance(node, list):
            if not (part.isdigit() and int(part) < len(node)):
                raise ConfigError(f"--set {change!r}: there is no number {part}", f"there are {len(node)}, from 0")
        elif not isinstance(node, dict):
            raise ConfigError(f"--set {change!r}: {'.'.join(path[:depth])} has no settings of its own")
        index: Any = int(part) if isinstance(node, list) else part
        if depth == len(path):
            node[index] = value
        else:
            node = node[index] if isinstance(node, list) else node.setdefault(index, {})


def _message(error: ValidationError) -> str:
    """The first thing that is wrong, with the nearest known key where one is unknown."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "the whole"
    if first["type"] != "extra_forbidden":
        return f"{field}: {first['msg']}"
    keys = _keys_at(first["loc"][:-1])
    near = difflib.get_close_matches(str(first["loc"][-1]), keys, n=1, cutoff=0.5)
    hint = f", did you mean {near[0]}?" if near else f"; known are {', '.join(keys)}"
    return f"unknown setting {field}{hint}"


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """The settings that can stand at a place of the recipe."""
    model: type[BaseModel] = Recipe
    for part in location:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)
