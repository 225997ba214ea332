"""Composites: a cut-out object at a random place on a photograph, so that where the object is is known to the pixel.

    python -m benchmarks.composites --fetch DIR              # 200 MB from Debian's archive, once
    python -m benchmarks.composites DIR --sheet sheet.png    # what they look like
    python -m benchmarks.composites --sheet sheet.png        # from installed wheels, without a download

A class is one object. From Debian: photographic cut-outs of the package tuxpaint-stamps-default before photographs of
mate-backgrounds, a few of which no training image shows. From wheels: discs out of eleven photographs of scikit-image
and scikit-learn before seven others.
"""

import argparse
import hashlib
import io
import sys
import tarfile
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks import photographs
from sumix import show

SIZE = 48  # pixels
LONGEST = 1.3  # frames
MIRROR = "https://deb.debian.org/debian"
STAMPS, LANDSCAPES = "usr/share/tuxpaint/stamps", "usr/share/backgrounds/mate/nature"
SEEN = ("Blinds", "Dune", "FreshFlower", "GreenMeadow", "LadyBird", "RainDrops", "Storm", "Wood")
UNSEEN = ("Aqua", "Garden", "TwoWings", "YellowFlower")
WHEEL_SEEN, WHEEL_UNSEEN = ("grass", "gravel", "brick", "temple", "moon"), ("cell", "motorcycle")

# The package's photographs, and none of its drawings: no shadows, nothing transparent, nothing as thin as a wire.
CUT_OUTS = {
    "animals/amphibians": "frog-1 frog",
    "animals/birds": (
        "adelaide-rosella albino_peahen blackbird chicken_profile crow crowned_crane cuckoo drake duck gander "
        "guineafowl helmeted_guineafowl hen heron_greatblue lark little-penguin magellanic_penguin magpie "
        "nandou ostrich owl pelican penguin pigeon pink_flamingo rainbow-lorikeet rooster seagull silver-gull "
        "tucan turkey vulture"
    ),
    "animals/fish": (
        "bluegroper butterflyfish clownfish coraltrout dolphinfish lionfish moonwrasse seahorse stripedfish"
    ),
    "animals/insects": "Brown_slug Woodlouse fly grasshopper hornet hoverfly mantis xanthia",
    "animals/lizards": "iguana",
    "animals/mammals/apes": "chimp gorilla",
    "animals/mammals/aquatic": "dolphin orca otter sea_lion whale",
    "animals/mammals": (
        "badger elephant ferret giraffe hippopotamus pig pig_golden pig_golden2 rabbit_little rhino_black wildboar"
    ),
    "animals/mammals/bears": "bear european-bear",
    "animals/mammals/bears/toys": "edward_bear",
    "animals/mammals/bovines": (
        "bison bull cow cow_white gnu-baby-stand gnu-baby gnu-stand goat indian_blackbuck mountaingoat ram "
        "sheep sheep_lamb yak zebu"
    ),
    "animals/mammals/camel": "camel dromedary",
    "animals/mammals/cats": "lion-2 lion tiger tiger_sumatran",
    "animals/mammals/deer": "caribou deer doe wapiti",
    "animals/mammals/dogs": "dingo dog fox",
    "animals/mammals/equines": "donkey donkey_eating horse zebra",
    "animals/mammals/rodents": "beaver capybara marmot mouse rabbit-2 rabbit rat squirrel",
    "animals/marsupials": "kangaroo koala wombat",
    "animals/shellfish": "abalone murray-mussel",
    "food/fruit": (
        "Apricot_whole Cherry_Stella Strawberry2 apple_fuji apple_granny_smith apple_green apple_red "
        "apple_sierra_beauty apricot avocado banana cherimoya grapes kiwi lemon mandarine mango orange "
        "orange_seville pear pineapple pomegranate raspberry sliced_lime sliced_orange strawberry"
    ),
    "food/nuts": "almond pecan walnut walnut_shelled",
    "food/spices": "ginger",
    "food/vegetables": (
        "broccoli chilepepper corn eggplant garlic garlics lettuce mushroom onion pattypan_squash pepper "
        "potato pumpkin_small redlettuce tomato yam yellowpepper"
    ),
    "plants": "eggplant",
    "plants/flowers": (
        "adeenia anemone_red anthoorium bolsom daffodil flower1 flower10 flower2 flower3 flower4 flower5 "
        "flower6 flower7 flower8 flower9 iris marigold pigface red-gazania rose whitestar-petunia "
        "yellow-flower"
    ),
    "plants/mushrooms": "cep-1 cep-2 cep",
    "plants/trees": "holly_leaves holm_oak liberia-palm pinecone rambutan",
    "vehicles/auto": "beetle sedan sportscar2 truck",
    "vehicles/construction": "dumper",
    "vehicles/cycle": "pink_tricycle",
    "vehicles/emergency": "firetruck",
    "vehicles/flight": "balloon360",
    "vehicles/flight/planes": "747",
    "vehicles": "garbagetruck wheel_tractor",
    "vehicles/masstransit": "green_korean_bus",
    "vehicles/race": "indycar",
    "vehicles/ship": "chineseJunk",
    "household": "Lightbulb cylinder garbagecan home_compost_bin kettle rubberduck toilet wheelie_bin",
    "household/dishes": "mug pitcher_small teapot",
    "household/dishes/utensils": "pepper_grinder",
    "household/tools": (
        "hammer mallet_metal paintbrush_large plyers saw toolbox wrench wrench_adjustable wrench_plumbers"
    ),
    "hobbies": "binoculars camera_35mm",
    "hobbies/music/percussion": "cymbal_crash drum_tomtom_floor drumkit",
    "hobbies/music/string": "cello guitar2 guitar_classical guitar_electric guitar_electric_bass violin",
}


@dataclass(frozen=True)
class Package:
    """A file of Debian's archive."""

    pool: str
    sha256: str
    wanted: tuple[str, ...]  # paths inside


PACKAGES = (
    Package(
        "pool/main/t/tuxpaint-stamps/tuxpaint-stamps-default_2022.06.04-1_all.deb",
        "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
        tuple(f"{STAMPS}/{folder}/{name}.png" for folder, names in CUT_OUTS.items() for name in names.split()),
    ),
    Package(
        "pool/main/m/mate-backgrounds/mate-backgrounds_1.26.0-1_all.deb",
        "7bf4c2209f34b4f61ba6d24c8b58c28b361e82e4b943aae6d42c030169af9e04",
        tuple(f"{LANDSCAPES}/{name}.jpg" for name in SEEN + UNSEEN),
    ),
)


class Variation(NamedTuple):
    """How far each value is drawn from its middle, at most, with equal probability."""

    angle: float  # degrees
    area: float  # of the object, as a share of the nominal
    contrast: float  # of object and of background, each for itself, as are the next two; as a share
    brightness: float  # of 1
    channels: float  # each channel's weight, as a share


WIDE = Variation(30, 0.4, 0.3, 0.15, 0.2)
MILD = Variation(15, 0.3, 0.15, 0.08, 0.05)  # small networks learn it from twenty images a class


class Sources(NamedTuple):
    """What composites are made of."""

    objects: dict[str, Image.Image]  # RGBA, without empty margins, by the class's name
    seen: list[Image.Image]  # RGB backgrounds to train on
    unseen: list[Image.Image]  # RGB backgrounds for tests only


class Composites(NamedTuple):
    """Images, what is in them, and where."""

    images: Tensor  # (N, 3, size, size) float32 in [0, 1]
    labels: Tensor  # (N,) int64
    masks: Tensor  # (N, size, size) float32, how much of each pixel is object


def members(package: bytes) -> Iterator[tuple[str, bytes]]:
    """The files of an ar archive, which a .deb is."""
    at = 8  # behind "!<arch>\n"
    while at + 60 <= len(package):
        name, length = package[at : at + 16].decode().strip().rstrip("/"), int(package[at + 48 : at + 58])
        yield name, package[at + 60 : at + 60 + length]
        at += 60 + length + length % 2


def unpack(package: bytes, wanted: Sequence[str], folder: Path) -> None:
    """Writes the wanted files of a .deb into a folder, under their paths in the package.

    Raises
    ------
    ValueError
        If the package lacks one of them.
    """
    archive = next(content for name, content in members(package) if name.startswith("data.tar"))
    missing = set(wanted)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:  # in the archive's order: going back would unpack all of it anew
            path = member.name.removeprefix("./")
            if path in missing:
                missing.remove(path)
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(tar.extractfile(member).read())
    if missing:
        raise ValueError(f"the package lacks {min(missing)}")


def fetch(folder: Path, mirror: str = MIRROR) -> None:
    """Downloads both packages and unpacks what is used of them; what is there already is not downloaded again.

    Raises
    ------
    OSError
        If the network or the folder fails.
    ValueError
        If a download is not the file that this was written for.
    """
    for package in PACKAGES:
        if all((folder / path).is_file() for path in package.wanted):
            continue
        url = f"{mirror}/{package.pool}"
        print(f"downloading {url}", flush=True)
        with urllib.request.urlopen(url, timeout=60) as answer:
            content = answer.read()
        found = hashlib.sha256(content).hexdigest()
        if found != package.sha256:
            raise ValueError(f"{url}: SHA-256 must be {package.sha256}, got {found}")
        unpack(content, package.wanted, folder)


def trimmed(image: Image.Image, side: int = 4 * SIZE) -> Image.Image:
    """A cut-out without its empty margins, at most `side` pixels long."""
    image = image.convert("RGBA")
    image = image.crop(image.getchannel("A").point(lambda a: 255 * (a > 127)).getbbox())
    image.thumbnail((side, side), Image.Resampling.BOX)
    return image


def shrunk(image: Image.Image, side: int = 4 * SIZE) -> Image.Image:
    """A photograph whose shorter side is `side` pixels."""
    scale = side / min(image.size)
    return image.resize([round(length * scale) for length in image.size], Image.Resampling.BOX)


def debian(folder: Path, side: int = 4 * SIZE) -> Sources:
    """What `fetch` has left in a folder; cut-outs at most `side` pixels long, photographs `side` on the shorter side.

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    """
    missing = [path for package in PACKAGES for path in package.wanted if not (folder / path).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {missing[0]} and {len(missing) - 1} more files: "
            f"python -m benchmarks.composites --fetch {folder}"
        )
    objects = {}
    for path in PACKAGES[0].wanted:
        name = path.removeprefix(f"{STAMPS}/").removesuffix(".png")
        objects[name] = trimmed(Image.open(folder / path), side)
    seen, unseen = (
        [shrunk(show.read(folder / LANDSCAPES / f"{name}.jpg"), side) for name in names] for names in (SEEN, UNSEEN)
    )
    return Sources(objects, seen, unseen)


def wheels(side: int = 4 * SIZE) -> Sources:
    """Discs out of the middle of photographs, from installed wheels; photographs are `side` pixels on the shorter side.

    Raises
    ------
    FileNotFoundError
        If scikit-image or scikit-learn is not installed.
    """
    pictures = {name: shrunk(show.read(path), side) for name, path in photographs.paths().items()}
    middle = side // 2
    at = np.arange(middle) + 0.5 - middle / 2
    disc = Image.fromarray(np.uint8(255 * (at**2 + at[:, None] ** 2 < middle**2 / 4)))
    objects = {}
    for name, picture in pictures.items():
        if name not in WHEEL_SEEN + WHEEL_UNSEEN:
            left, top = ((length - middle) // 2 for length in picture.size)
            objects[name] = picture.crop((left, top, left + middle, top + middle))
            objects[name].putalpha(disc)
    return Sources(objects, [pictures[name] for name in WHEEL_SEEN], [pictures[name] for name in WHEEL_UNSEEN])


def jitter(pixels: np.ndarray, random: np.random.Generator, variation: Variation) -> np.ndarray:
    """Other light: contrast, brightness and the weight of each channel, of pixels (H, W, 3) in [0, 1]."""
    middle = pixels.mean()
    contrast = random.uniform(1 - variation.contrast, 1 + variation.contrast)
    brightness = random.uniform(-variation.brightness, variation.brightness)
    channels = random.uniform(1 - variation.channels, 1 + variation.channels, 3)
    return np.clip(((pixels - middle) * contrast + middle + brightness) * channels, 0, 1)


def background(picture: Image.Image, size: int, random: np.random.Generator, variation: Variation = WIDE) -> np.ndarray:
    """A random square of a photograph, (size, size, 3) in [0, 1]."""
    side = int(random.uniform(0.3, 0.7) * min(picture.size))
    left, top = (int(random.integers(length - side + 1)) for length in picture.size)
    square = picture.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    pixels = np.asarray(square, np.float32) / 255
    return jitter(pixels[:, ::-1] if random.random() < 0.5 else pixels, random, variation)


def placed(
    cut_out: Image.Image, share: float, size: int, random: np.random.Generator, variation: Variation
) -> np.ndarray:
    """An object turned, scaled to about `share` of the frame and put somewhere: (size, size, 4), alpha last.

    An object that is longer than the frame is cut off by it, and none is made longer than LONGEST frames: long objects
    cannot fill a frame.
    """
    if random.random() < 0.5:
        cut_out = cut_out.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    angle = random.uniform(-variation.angle, variation.angle)
    turned = cut_out.convert("RGBa").rotate(angle, Image.Resampling.BILINEAR, expand=True)
    box = turned.getchannel("a").getbbox()
    covered = np.asarray(turned.getchannel("a"), np.float32).sum() / 255
    scale = np.sqrt(share * random.uniform(1 - variation.area, 1 + variation.area) / covered) * size
    scale = min(scale, LONGEST * size / max(box[2] - box[0], box[3] - box[1]))
    width, height = (max(1, round(scale * (box[2 + i] - box[i]))) for i in range(2))
    small = np.asarray(turned.resize((width, height), Image.Resampling.BOX, box), np.float32) / 255
    frame = np.zeros((size, size, 4), np.float32)
    y, x = (int(random.integers(min(0, size - length), max(0, size - length) + 1)) for length in (height, width))
    inside = small[max(0, -y) : size - y, max(0, -x) : size - x]
    frame[max(0, y) : y + height, max(0, x) : x + width] = inside
    return frame


def make(
    objects: Sequence[Image.Image],
    backgrounds: Sequence[Image.Image],
    labels: Sequence[int],
    share: float,
    random: np.random.Generator,
    size: int = SIZE,
    variation: Variation = WIDE,
) -> Composites:
    """Composites of the objects with these indices, which are their classes.

    Parameters
    ----------
    objects : sequence of RGBA images
        One a class.
    backgrounds : sequence of RGB images
        Each image gets a random piece of one of them.
    labels : sequence of int
        The class of each image to make.
    share : float
        How much of the frame an object covers, varied around this, and less if it would be longer than the frame.
    random : numpy.random.Generator
        Draws place, scale, angle, flip, light and background; equal generators give equal composites.
    size : int
        Height and width of the images in pixels.
    variation : Variation
        How much images of a class differ.
    """
    images = np.empty((len(labels), size, size, 3), np.float32)
    masks = np.empty((len(labels), size, size), np.float32)
    for i, label in enumerate(labels):
        behind = background(backgrounds[random.integers(len(backgrounds))], size, random, variation)
        before = placed(objects[label], share, size, random, variation)
        alpha = before[..., 3:]
        colour = jitter(before[..., :3] / np.maximum(alpha, 1e-3), random, variation)
        images[i] = behind * (1 - alpha) + colour * alpha
        masks[i] = before[..., 3]
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return Composites(pixels, torch.tensor(labels), torch.from_numpy(masks))


def sheet(sources: Sources, file: Path, columns: int = 20) -> None:
    """Examples as one picture: three object shares, with known and with new backgrounds, and their masks below."""
    random = np.random.default_rng(0)
    objects = list(sources.objects.values())
    lines = []
    for backgrounds in (sources.seen, sources.unseen):
        for share in (0.10, 0.25, 0.60):
            labels = random.integers(len(objects), size=columns).tolist()
            made = make(objects, backgrounds, labels, share, random)
            print(f"nominal share {share:.0%}, covered on average {made.masks.mean():.1%}")
            masks = made.masks.unsqueeze(1).expand(-1, 3, -1, -1)
            lines += [torch.cat(list(part), dim=2) for part in (made.images, masks)]
    pixels = (255 * torch.cat(lines, dim=1)).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).resize([2 * s for s in pixels.shape[1::-1]], Image.Resampling.NEAREST).save(file)


def main() -> None:
    """Fetch the packages, or draw a sheet of composites."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="where --fetch has put the data; without it, from wheels")
    parser.add_argument("--fetch", type=Path, metavar="DIR", help="download the Debian packages and unpack them here")
    parser.add_argument("--mirror", default=MIRROR, help="of Debian (default: %(default)s)")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="write examples as one picture")
    options = parser.parse_args()
    if not options.fetch and not options.sheet:
        parser.error("nothing to do without --fetch and --sheet")
    try:
        if options.fetch:
            fetch(options.fetch, options.mirror)
        if options.sheet:
            folder = options.data or options.fetch
            sheet(debian(folder) if folder else wheels(), options.sheet)
    except (OSError, ValueError) as error:
        sys.exit(f"composites: {error}")


if __name__ == "__main__":
    main()
