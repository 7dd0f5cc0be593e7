"""What a dashboard is asked to show, and whether it can be: names and paths, checked before a server is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

SEVERAL = 12  # runs or files side by side


class Takes(NamedTuple):
    """How many an app takes, and which splits of a run's saved features it needs ("val|test": either)."""

    features: int
    runs: int
    saved: tuple[str, ...] = ()


APPS = {
    "explore": Takes(1, 1, ("test",)),
    "compare": Takes(SEVERAL, SEVERAL, ("test",)),
    "prompts": Takes(1, 1),
    "lens": Takes(0, SEVERAL),
    "distances": Takes(2, 1, ("train", "test")),
    "train": Takes(0, 1),
    "loss_bench": Takes(2, 1, ("train", "val|test")),
    "prior": Takes(1, 1, ("test",)),
    "descriptions": Takes(1, 1, ("test",)),
    "papers": Takes(0, 0),
}
WITH_RUN = ("prompts", "descriptions")  # features alone are not enough
NUMBERS = ("loss_bench", "prior")  # show no images


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One dashboard as asked for: names and paths, nothing read yet."""

    app: str
    features: tuple[str, ...] = ()  # files
    runs: tuple[str, ...] = ()  # folders
    data: str | None = None  # name or path of a data set
    root: str | None = None  # folder of its images
    texts: str | None = None  # file of sentences

    def problem(self) -> str | None:
        """Why the command line makes no sense, or None."""
        takes = APPS[self.app]
        for option, given, most in (("--features", self.features, takes.features), ("--run", self.runs, takes.runs)):
            if len(given) > most:
                return f"{self.app} takes {f'at most {most}' if most else 'no'} {option}; {len(given)} were given."
        if self.app == "distances" and len(self.features) == 1:
            return "distances takes two --features, of training images and of test images, in this order."
        if self.app in ("distances", "loss_bench") and self.features and self.runs:
            return f"{self.app} takes --features, or --run with features in its folder, not both."
        if self.app in WITH_RUN and self.features and not self.runs:
            return f"{self.app} looks into the method; give its --run beside --features."
        if self.app == "train" and self.runs and self.data:
            return "train opens the --run with its own data set; leave --data out."
        if (self.data or self.root) and not (self.features or self.runs or self.app == "train"):
            return "--data and --root say where images of --features or --run are; give one of these."
        if (self.data or self.root) and self.app in NUMBERS:
            return f"{self.app} shows no images; leave --data and --root out."
        if self.app == "train" and self.root:
            return "train asks for the images' folder itself; leave --root out."
        if self.texts and not (self.app == "descriptions" and self.runs):
            return "--texts are the sentences of a --run of descriptions."
        return None

    def given(self) -> dict[str, Any]:
        """The same as keywords of `apps.dashboard.dashboard`; features of runs are the files in their folders.

        Raises:
            ValueError, FileNotFoundError: something is not there; said before a server is started for it.
        """
        for file in self.features:
            if not Path(file).expanduser().is_file():
                raise FileNotFoundError(f"{file} is no file of features; `workbench extract RUN` makes one.")
        features = list(self.features)
        for run in self.runs:
            folder = Path(run).expanduser()
            if not (folder / "config.json").is_file():
                raise FileNotFoundError(f"{run} is not a run folder: it has no config.json. `workbench fit` makes one.")
            if not self.features or self.app == "compare":
                features += [str(saved(folder, splits)) for splits in APPS[self.app].saved]
        if self.root is not None and not Path(self.root).expanduser().is_dir():
            raise FileNotFoundError(f"--root {self.root} is not a folder.")
        if self.texts is not None and not Path(self.texts).expanduser().exists():
            raise FileNotFoundError(f"--texts {self.texts} is not there.")
        if self.data is not None:
            from workbench.data import Manifest

            Manifest.load(self.data)
        more = {"data": self.data, "root": self.root, "texts": self.texts}
        return {"app": self.app, "features": features, "runs": list(self.runs), **more}


def saved(folder: Path, splits: str, layer: str = "head") -> Path:
    """The file in a run folder that holds features of a split ("val|test": of the first that is there).

    Of several the ones of the head and of one view are taken. FileNotFoundError says the command that makes them.
    """
    found: list[Path] = []
    for split in splits.split("|"):
        files = sorted((folder / "features").glob(f"{split}*.npz"))
        first = (f"{split}-centre-{layer}.npz", f"{split}.npz")
        found += sorted(files, key=lambda file: (file.name not in first, layer not in file.name, file.name))
    if not found:
        split = splits.split("|")[0]
        raise FileNotFoundError(
            f"{folder} holds no features of its {splits.replace('|', ' or ')} images: "
            f"`workbench extract {folder} --split {split} --views centre` makes them."
        )
    return found[0]
