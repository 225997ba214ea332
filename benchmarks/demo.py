"""Shows in minutes what labels by area do, and labels by evidence: a handful of small networks, trained on a CPU.

    python -m benchmarks.demo             # from the repository's root; or, from anywhere, python benchmarks/demo.py
    python -m benchmarks.demo --quick     # one seed, a fifth of the steps

Objects at random places on photographs, from files of scikit-image's and scikit-learn's wheels (composites.py), so that
the true labels are known. Every row of a seed starts from the same weights and sees the same batches, partners and
boxes. Prints a table and writes runs.jsonl, accuracy.png, pairs.png and evidence.png. Ctrl-C keeps the finished runs.
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

# Run as a file, not with -m, it finds its neighbours, and a sumix that is built in place, only with this.
sys.path.append(str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

try:
    from tqdm import tqdm

    from benchmarks import figures, study
except ModuleNotFoundError as error:
    sys.exit(f"demo: {error}: pip install '.[demo]' installs what the demo needs")

from benchmarks.step import ROWS, Step
from sumix import CutMix, ForegroundMix, SUMixLoss
from sumix.evidence import Evidence

SET = "wheels"
KEYS = ("none", "none-ls", "cutmix", "published", "cutmix-fg", "fgmix-ls", "fgmix-open-ls")
SHOWN = ("published", "fgmix-ls")  # whose networks of the first seed the figures look through
FIRST = 21  # of the seeds
INTERRUPTED = 130  # the exit status that shells give to Ctrl-C
RUNS, FIGURES = "runs.jsonl", ("accuracy.png", "pairs.png", "evidence.png")

ABOUT = (
    "{images} composites for training and {tests} for each test: eleven objects, cut out of photographs, at random "
    "places on other photographs, covering about a quarter of the frame. New backgrounds: photographs that no training "
    "image shows. CutMix draws lam from Beta(0.2, 0.2) for every batch; ForegroundMix pastes into half of the images."
)
COLUMNS = (
    "top-1 and ECE (15 bins) after the last step, mean over seeds +- standard error; differences are taken seed by "
    "seed. Smoothing is label smoothing of 0.1. Seconds are those of training, one thread a run."
)


def setting_of(options: argparse.Namespace) -> study.Setting:
    """The data set, trained on for as long as asked."""
    return replace(study.SETTINGS[SET], image_steps=options.image_steps)


def work(key: str, seed: int, setting: study.Setting, weights: Path | None) -> dict[str, Any]:
    """One run, in a process of its own; keeps the network's weights where the figures want them."""
    torch.set_num_threads(1)
    model, found = study.train(ROWS[key], setting, seed, study.load(setting, seed, None))
    if weights is not None:
        torch.save(model.state_dict(), weights)
    return study.line(SET, key, seed, found, setting)


def ignore_ctrl_c() -> None:
    """Leave Ctrl-C, which a terminal sends to all processes of a job, to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def train(options: argparse.Namespace) -> bool:
    """All runs, several at a time; whether they are finished."""
    seeds = range(FIRST, FIRST + options.seeds)
    tasks = [(key, seed) for seed in seeds for key in KEYS]
    spawn = multiprocessing.get_context("spawn")
    done = 0
    with (options.out / RUNS).open("w") as file:
        pool = ProcessPoolExecutor(options.jobs, spawn, ignore_ctrl_c)
        try:
            runs = []
            for key, seed in tasks:
                weights = options.out / f"{key}.pt" if key in SHOWN and seed == FIRST else None
                runs.append(pool.submit(work, key, seed, setting_of(options), weights))
            with tqdm(total=len(runs), unit="run", disable=not options.progress) as bar:
                for finished in as_completed(runs):
                    run = finished.result()
                    file.write(json.dumps(run) + "\n")
                    file.flush()
                    done += 1
                    bar.update()
                    if not options.progress:
                        print(f"{ROWS[run['row']].about}, seed {run['seed']}: top-1 {run['top1']:.1f} %", flush=True)
        except KeyboardInterrupt:
            print(f"\nInterrupted: {done} of {len(tasks)} runs are finished.")
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
    return done == len(tasks)


def trained(key: str, options: argparse.Namespace) -> nn.Module | None:
    """The first seed's network of a row, for evaluation; None if that run was not finished."""
    file = options.out / f"{key}.pt"
    if not file.exists():
        return None
    setting = setting_of(options)
    model = study.network(ROWS[key], setting)
    model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval()


def pixels(images: Tensor) -> Tensor:
    """Images as they are drawn: (N, H, W, 3) in [0, 1]."""
    return (images * study.SETTINGS[SET].std + study.MEAN).clamp(0, 1).permute(0, 2, 3, 1)


@torch.no_grad()
def draw_pairs(data: study.Split, names: list[str], options: argparse.Namespace, count: int = 6) -> None:
    """The first pairs of a batch of test images, mixed by CutMix and by ForegroundMix, and the labels that each way of
    making them gives, as far as the networks for it are there."""
    batch = study.Split(*(None if part is None else part[:50] for part in data))
    step = Step(ROWS["fgmix-ls"], trained("fgmix-ls", options), setting_of(options).classes, {})
    seen, truth = step.evidence(batch.images), Evidence(batch.masks)
    mixed, target = CutMix(alpha=1.0)(batch.images, batch.labels, seed=options.seeds)
    weights = {"area": target.lam}
    published = trained("published", options)
    if published is not None:
        criterion = SUMixLoss(gamma=0.0, ratio="published", return_parts=True)
        weights["SUMix, published"] = criterion(published(mixed), published(batch.images), target)[1].lam
    weights |= {"foreground": target.relabel(seen).label_lam, "true masks": target.relabel(truth).label_lam}
    pasted, of_pasted = ForegroundMix(p=1.0)(batch.images, batch.labels, seen, seed=options.seeds)
    with_paste = {"foreground": of_pasted.label_lam, "true masks": of_pasted.relabel(truth).label_lam}
    differ = (target.y_a != target.y_b) & (target.lam > 0.15) & (target.lam < 0.85) & (of_pasted.lam < 1)
    chosen = differ.nonzero().squeeze(1)[:count]
    partner = target.perm[chosen]

    def rows(ways: dict[str, Tensor]) -> dict[str, list[float]]:
        return {way: lam[chosen].tolist() for way, lam in ways.items()}

    shown = figures.Pairs(
        *(pixels(images) for images in (batch.images[chosen], batch.images[partner])),
        [names[label] for label in batch.labels[chosen].tolist()],
        [names[label] for label in batch.labels[partner].tolist()],
        {"CutMix": (pixels(mixed[chosen]), rows(weights)), "ForegroundMix": (pixels(pasted[chosen]), rows(with_paste))},
    )
    figures.pairs(shown, options.out / "pairs.png")


@torch.no_grad()
def draw_evidence(data: study.Data, options: argparse.Namespace, count: int = 10) -> None:
    """What the network takes for the object in test images, without being told, with known and with new backgrounds."""
    step = Step(ROWS["fgmix-ls"], trained("fgmix-ls", options), setting_of(options).classes, {})
    sheets = {}
    for title, split in (("known backgrounds", data.seen), ("new backgrounds", data.unseen)):
        found = step.evidence(split.images[:50])
        sheets[title] = figures.Sheet(pixels(split.images[:count]), found.map[:count], found.gate[:count].tolist())
    figures.evidence(sheets, options.out / "evidence.png")


def whole_number(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """An argparse type: an integer from `least` to `most`."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}, got {text!r}")
        return value

    return convert


def folder(text: str) -> Path:
    """An argparse type: a folder that is there or can be made."""
    path = Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / RUNS).touch()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write to {text}: {error.strerror}") from error
    return path


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    whole = study.SETTINGS[SET].image_steps
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, and a fifth of the steps")
    parser.add_argument("--seeds", type=whole_number(1, 100), help="how many (default: 4)")
    parser.add_argument("--image-steps", type=whole_number(50), help=f"images a network sees (default: {whole})")
    parser.add_argument(
        "--jobs", type=whole_number(1, 1024), default=os.cpu_count(), help="runs at a time (default: all processors)"
    )
    parser.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, default=sys.stderr.isatty(), help="a bar (on terminals)"
    )
    parser.add_argument("--out", type=folder, default="runs/demo", help="folder to write to (default: %(default)s)")
    options = parser.parse_args(arguments)
    options.seeds = options.seeds or (1 if options.quick else 4)
    options.image_steps = options.image_steps or (whole // 5 if options.quick else whole)
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    options = parse(arguments)
    for name in FIGURES:
        (options.out / name).unlink(missing_ok=True)
    for key in SHOWN:
        (options.out / f"{key}.pt").unlink(missing_ok=True)
    setting = setting_of(options)
    try:
        data = study.load(setting, FIRST, None)
    except FileNotFoundError as error:
        sys.exit(f"demo: {error}")
    print(textwrap.fill(ABOUT.format(images=setting.images, tests=setting.tests), 100), flush=True)
    print(f"\n{options.seeds} seeds, {setting.image_steps} images seen by each network\n", flush=True)
    finished = train(options)
    runs = study.read(options.out / RUNS)
    if runs:
        print(f"\n{study.table(runs, SET)}\n\n{textwrap.fill(COLUMNS, 100)}\n")
        figures.accuracy({ROWS[key].about: [r for r in runs if r["row"] == key] for key in KEYS}, options.out)
    if (options.out / "fgmix-ls.pt").exists():
        draw_pairs(data.seen, data.classes, options)
        draw_evidence(data, options)
    print("Wrote " + ", ".join(str(options.out / name) for name in (RUNS, *FIGURES) if (options.out / name).exists()))
    return 0 if finished else INTERRUPTED


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # while the figures are made
        sys.exit(INTERRUPTED)
