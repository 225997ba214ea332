"""Pictures of mixes: the command end to end, the figure's contents, and that the user's model is left as it was."""

import copy
import os
import re
import shlex
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch
from torch import nn

for needed in ("skimage", "matplotlib", "PIL"):
    pytest.importorskip(needed)

import numpy as np  # noqa: E402
from PIL import Image, PngImagePlugin  # noqa: E402

import sumix  # noqa: E402
from benchmarks import photographs  # noqa: E402
from sumix import CutMix, FMix, MixUp, RandomMix, SUMixHead, SUMixLoss, capture_features, ops, show, visualize  # noqa: E402
from sumix.evidence import Evidence  # noqa: E402
from tests import classifier  # noqa: E402

ROOT = Path(__file__).parents[1]
PATHS = photographs.paths()
FILES = [str(PATHS[name]) for name in ("astronaut", "cat", "cameraman")]  # of different sizes, the last one grey
SMALL = ["--size", "32", "--mixers", "CutMix", "FMix"]
MODEL = ["--model", "tests.classifier:make"]


@pytest.fixture(scope="module")
def images():
    return show.load([Path(file) for file in FILES], 32)


def captions(figure):
    return [at.get_xlabel() for at in figure.axes if at.get_xlabel()]


def run(*arguments):
    command = [sys.executable, "-m", "sumix.show", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


# The command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_a_picture(tmp_path):
    done = run(*FILES, "-o", tmp_path / "grid.png", *SMALL, *MODEL, "--dpi", 50)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"wrote {tmp_path / 'grid.png'}\n"
    with Image.open(tmp_path / "grid.png") as picture:
        width, height = picture.size
    assert 180 < width < 220 and 200 < height < 400  # three cells of 60 pixels by three, and the captions


def test_load_takes_the_middle_square_upright(tmp_path):
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, :20], pixels[:, 20:40], pixels[:, 40:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(np.ascontiguousarray(pixels[:, :20])).save(tmp_path / "turned.png", exif=exif)
    wide, turned = show.load([tmp_path / "wide.png", tmp_path / "turned.png"], 10)
    assert wide.shape == (3, 10, 10) and wide.dtype is torch.uint8
    inner = wide[:, :, 1:-1]  # resizing looks beyond the square
    assert (inner[1] == 255).all() and (inner[0] == 0).all() and (inner[2] == 0).all()
    assert (turned[0] == 255).all()


def test_equal_seeds_equal_pictures(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert show.main([*FILES, "-o", str(tmp_path / name), *SMALL, "--seed", str(seed), "--dpi", "40"]) == 0
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize("suffix", ["jpg", "pdf", "svg"])
def test_other_formats(tmp_path, suffix):
    assert show.main([*FILES[:2], "-o", str(tmp_path / f"x.{suffix}"), *SMALL, "--dpi", "40"]) == 0
    start = {"jpg": b"\xff\xd8", "pdf": b"%PDF", "svg": b"<?xml"}[suffix]
    assert (tmp_path / f"x.{suffix}").read_bytes().startswith(start)


def test_weights_from_a_checkpoint_and_by_name(tmp_path):
    model = classifier.make()
    with torch.no_grad():
        model[-1].weight.fill_(0.5)
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "net.pth")
    found = show.build("tests.classifier:make", str(tmp_path / "net.pth"))
    assert (found[-1].weight == 0.5).all()
    assert isinstance(show.build("tests.classifier:make_flat", "GOOD"), nn.Sequential)
    assert isinstance(show.build("tests.classifier:Fussy", None), classifier.Fussy)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([FILES[0]], "give at least two images"),
        ([*FILES, "--mixers", "Blend"], "Blend"),
        ([*FILES, "--size", "0"], "must be at least 1, got 0"),
        ([*FILES, "--size", "x"], "invalid"),
        ([*FILES, "--weights", "x"], "--weights are of a --model"),
        ([*FILES, *MODEL, "--ratios", "area"], "area"),
    ],
)
def test_what_is_not_understood_exits_with_2(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit:
        show.main([*arguments, "-o", str(tmp_path / "x.png")])
    assert exit.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


def test_an_image_is_not_overwritten(capsys):
    with pytest.raises(SystemExit):
        show.main([*FILES, "-o", FILES[1]])
    assert "would overwrite an image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png"], "missing.png cannot be read: No such file"),
        ([str(ROOT)], "cannot be read: Is a directory"),
        ([__file__], "cannot be read: cannot identify image file"),
        (["--alpha", "0"], "alpha must be above 0"),
        (["--seed", str(2**70)], "seed must be"),
        (["--model", "tests.classifier"], "--model must be MODULE:FUNCTION, got 'tests.classifier'"),
        (["--model", "tests.nothing:make"], "--model tests.nothing:make() failed: ModuleNotFoundError"),
        (["--model", "tests.classifier:nothing"], "failed: AttributeError"),
        (["--model", "tests.classifier:make_flat", "--weights", "BAD"], "make_flat(weights='BAD') failed: KeyError"),
        (["--model", "tests.classifier:no_module"], "must make an nn.Module, got int"),
        ([*MODEL, "--weights", __file__], "does not fit tests.classifier:make"),
        (["--model", "tests.classifier:make_flat", "--ratios", "cam"], "no feature map was found"),
        ([*MODEL, "--layer", "nothing"], "layer must be the name of a module"),
        ([*MODEL, "--size", "4"], "has only one place"),
        ([*MODEL, "--std", "0", "1", "1"], "std must be above 0"),
        (["-o", "nowhere/x.png"], "No such file or directory: 'nowhere/x.png'"),
        (["-o", "x.xyz"], "xyz"),
    ],
)
def test_what_fails_is_one_line_and_exits_with_1(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert show.main(["-o", "x.png", "--mixers", "CutMix", "--size", "32", *FILES[:2], *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == "" and message in err
    assert err.count("\n") == 1 and err.startswith("python -m sumix.show: error: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("package", "needs"), [("PIL", "Pillow"), ("matplotlib.figure", "matplotlib")])
def test_what_is_not_installed_is_named(package, needs, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)  # importing it raises ImportError
    assert show.main([*FILES, "-o", str(tmp_path / "x.png"), *SMALL]) == 1
    err = capsys.readouterr().err
    assert needs in err and "pip install sumix[show]" in err and err.count("\n") == 1


def test_importing_sumix_needs_neither():
    code = (
        "import sys; sys.modules['PIL'] = sys.modules['matplotlib'] = None; import sumix;"
        "assert 'sumix.visualize' not in sys.modules; print(sumix.visualize.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("sumix.visualize\n", "")


def test_sumix_has_no_other_lazy_names():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        sumix.nothing  # noqa: B018


# The files --------------------------------------------------------------------------------------------------------

COLOURS = np.array([[(255, 0, 0), (10, 200, 30), (0, 0, 255)], [(255, 255, 255), (0, 0, 0), (90, 90, 90)]], np.uint8)
GREYS = np.array([[0, 128, 129, 257 * 7], [257 * 100, 40000, 65406, 65535]], np.uint16)
ON_8_BITS = (GREYS / 257).round().astype(np.uint8)  # 0, 0, 1, 7, ...
OF_16_BITS = ["png", "tif", "pgm", "jp2", "ico"]


def read(path):
    image = show.read(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def three(grey):
    return np.stack([grey] * 3, axis=-1)


def png(path, depth, colour, row, width, *chunks):
    """A PNG of one row, of what Pillow does not write."""
    made = [(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)), *chunks]
    made += [(b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in made
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def tiff(path, bits, sample_format, photometric, data, width, order="<", extra=None):
    """A TIFF of one row, of what Pillow does not write."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1 if extra is None else 2, 278: 1}
    tags |= {279: len(data), **({} if extra is None else {338: extra}), 339: sample_format}
    entries = b"".join(struct.pack(order + "HHIHxx", tag, 3, 1, value) for tag, value in tags.items())
    data += b"\0" * (len(data) % 2)
    start = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8 + len(data))
    path.write_bytes(start + data + struct.pack(order + "H", len(tags)) + entries + b"\0" * 4)
    return path


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *[("1", suffix) for suffix in ("png", "tif", "pbm", "bmp", "gif")],
        *[("L", suffix) for suffix in ("png", "tif", "pgm", "bmp", "gif", "jp2", "webp")],
        *[("P", suffix) for suffix in ("png", "tif", "bmp", "gif", "pcx", "tga")],
        *[("RGB", suffix) for suffix in ("png", "tif", "ppm", "bmp", "jp2", "tga", "webp", "qoi", "ico", "sgi")],
        *[(mode, "tif") for mode in ("LA", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB")],
        *[("LA", "png"), ("RGBA", "png")],
    ],
)
def test_modes_of_8_bits_keep_their_colours(mode, suffix, tmp_path):
    image = Image.fromarray(COLOURS)
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    image.save(tmp_path / f"x.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    want = np.asarray(
        Image.fromarray(COLOURS).convert(mode).convert("RGB") if mode in ("1", "L", "LA") else image.convert("RGB")
    )
    apart = np.abs(read(tmp_path / f"x.{suffix}").astype(int) - want)
    assert apart.max() <= (2 if mode in ("YCbCr", "LAB") else 0)
    if mode not in ("1", "L", "LA", "P", "PA"):
        assert np.abs(want.astype(int) - COLOURS).max() <= (
            25 if mode == "LAB" else 3
        )  # what was written is what was meant


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
def test_jpeg(mode, tmp_path):
    plain = Image.new("RGB", (16, 16), (200, 60, 100))
    plain.convert(mode).save(tmp_path / "x.jpg", quality=100)
    want = np.asarray(plain.convert(mode).convert("RGB")).astype(int)
    assert np.abs(read(tmp_path / "x.jpg") - want).max() <= 3


@pytest.mark.parametrize("suffix", OF_16_BITS)
def test_16_bits_are_scaled(suffix, tmp_path):
    Image.fromarray(GREYS).save(tmp_path / f"x.{suffix}", **({"sizes": [(4, 2)]} if suffix == "ico" else {}))
    assert np.array_equal(read(tmp_path / f"x.{suffix}"), three(ON_8_BITS))


def test_other_files_of_16_bits(tmp_path):
    large = Image.fromarray(GREYS)
    for mode, order in (("I;16L", "<u2"), ("I;16B", ">u2")):
        path = tmp_path / f"{mode[2:]}.tif"
        Image.frombytes(mode, large.size, GREYS.astype(order).tobytes()).save(path)
        assert np.array_equal(read(path), three(ON_8_BITS))
    large.save(tmp_path / "packed.tif", compression="tiff_lzw")
    assert np.array_equal(read(tmp_path / "packed.tif"), three(ON_8_BITS))
    whole = Image.fromarray(GREYS.astype(np.int32))
    whole.save(tmp_path / "whole.pgm")
    assert np.array_equal(read(tmp_path / "whole.pgm"), three(ON_8_BITS))
    (tmp_path / "plain.pgm").write_text("P2 3 1 1000\n0 500 1000\n")
    assert read(tmp_path / "plain.pgm")[0, :, 0].tolist() == [0, 128, 255]
    row = struct.pack(">4H", 0, 257 * 9, 40000, 65535)
    assert read(tiff(tmp_path / "dark.tif", 16, 1, 0, row[::-1], 4))[0, :, 0].tolist() == [0, 99, 246, 255]
    packed = tiff(tmp_path / "12.tif", 12, 1, 1, bytes([0xFF, 0xF8, 0x00, 0x00, 0x10]), 3)
    assert read(packed)[0, :, 0].tolist() == [255, 128, 0]
    assert read(png(tmp_path / "rgb.png", 16, 2, struct.pack(">3H", 0, 40000, 65535), 1)).tolist() == [[[0, 156, 255]]]
    assert read(png(tmp_path / "la.png", 16, 4, struct.pack(">4H", 0, 65535, 0, 0), 2))[0, :, 0].tolist() == [0, 255]


def test_a_png_that_opens_as_whole_numbers(tmp_path, monkeypatch):
    """As Pillow did with 16 bits until version 11."""
    Image.fromarray(GREYS).save(tmp_path / "x.png")
    modes = dict(PngImagePlugin._MODES)
    modes[16, 0] = ("I", "I;16B")
    monkeypatch.setattr(PngImagePlugin, "_MODES", modes)
    with Image.open(tmp_path / "x.png") as image:
        assert image.mode == "I"
    assert np.array_equal(read(tmp_path / "x.png"), three(ON_8_BITS))


@pytest.mark.parametrize("suffix", ["tif", "pfm"])
def test_floating_point_is_scaled_from_0_to_1(suffix, tmp_path):
    Image.fromarray(np.array([[0, 0.2, 0.4999], [0.5, 0.999, 1]], np.float32)).save(tmp_path / f"x.{suffix}")
    assert np.array_equal(read(tmp_path / f"x.{suffix}"), three(np.array([[0, 51, 127], [128, 255, 255]], np.uint8)))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (np.float32([[0, 255]]), "mode F with numbers from 0 to 255; expected .*floating point from 0 to 1"),
        (np.float32([[-0.5, 0.5]]), "mode F with numbers from -0.5 to 0.5"),
        (np.float32([[0, 1.0000001]]), "from 0 to 1.00000012"),
        (np.float32([[0, np.nan]]), "mode F with numbers from nan to nan"),
        (np.float32([[0, np.inf]]), "mode F with numbers from 0 to inf"),
        (np.int32([[0, 255]]), "TIFF file of mode I which does not say what is black and what is white"),
    ],
)
def test_numbers_without_a_range_are_refused(numbers, message, tmp_path):
    Image.fromarray(numbers).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=f"x.tif cannot be read: .*{message}"):
        show.read(tmp_path / "x.tif")


def test_what_pillow_would_misread_is_refused(tmp_path):
    black = (b"tRNS", struct.pack(">3H", 0, 0, 0))
    fits = "".join(
        f"{card:80}" for card in ("SIMPLE  =  T", "BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 1", "NAXIS2  = 1", "END")
    )
    (tmp_path / "x.fits").write_bytes(f"{fits:2880}".encode() + b"\xff\xff" + b"\0" * 2878)
    for path, message in (
        (tiff(tmp_path / "8.tif", 8, 2, 1, b"\xff\x01", 2), "mode L with signed integers"),
        (tiff(tmp_path / "16.tif", 16, 2, 1, b"\xff\xff\1\0", 2), "mode I which does not say"),
        (tiff(tmp_path / "32.tif", 32, 1, 1, b"\xff" * 4, 1), "mode I which does not say"),
        (png(tmp_path / "x.png", 16, 2, b"\0" * 6, 1, black), "mode RGB with a transparent colour of 16 bits"),
        (tmp_path / "x.fits", "FITS file of mode I;16 which does not say"),
    ):
        with pytest.raises(ValueError, match=f"{path.name} cannot be read: .*{message}.*; expected 8 bits a channel"):
            show.read(path)


@pytest.mark.parametrize("mode", ["La", "HSV", "RGBa", "RGBX", "I;16N", "BGR;15"])
def test_modes_that_no_common_file_has(mode, tmp_path, monkeypatch):
    image = Image.new("RGB" if mode == "BGR;15" else mode, (1, 1))
    image.format = "PNG"
    if mode == "BGR;15":
        image._mode = mode
    (tmp_path / "x").touch()
    monkeypatch.setattr(Image, "open", lambda _: image)
    if mode == "BGR;15":
        with pytest.raises(ValueError, match=r"x cannot be read: .*PNG file of mode BGR;15 which does not say"):
            show.read(tmp_path / "x")
    else:  # what is not transparent is black
        assert (read(tmp_path / "x") == (255 if mode in ("La", "RGBa") else 0)).all()


def test_transparent_pixels_are_laid_on_white(tmp_path):
    pixels = np.array([[(255, 0, 0, 0), (255, 0, 0, 255), (0, 0, 0, 51)]], np.uint8)
    want = [[[255, 255, 255], [255, 0, 0], [204, 204, 204]]]
    for suffix in ("png", "tif", "webp", "tga", "qoi"):
        Image.fromarray(pixels).save(tmp_path / f"x.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
        assert read(tmp_path / f"x.{suffix}").tolist() == want, suffix
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    palette.putpalette([255, 0, 0, 255, 0, 0, 0, 0, 0])
    palette.save(tmp_path / "bytes.png", transparency=bytes([0, 255, 51]))
    assert read(tmp_path / "bytes.png").tolist() == want
    for suffix in ("png", "gif"):
        palette.save(tmp_path / f"key.{suffix}", transparency=0)
        assert read(tmp_path / f"key.{suffix}").tolist() == [[[255] * 3, [255, 0, 0], [0] * 3]], suffix
    alpha = palette.convert("PA")
    alpha.putalpha(Image.fromarray(pixels[..., 3]))
    alpha.save(tmp_path / "pa.tif")
    assert read(tmp_path / "pa.tif").tolist() == want
    Image.merge("LA", [Image.new("L", (3, 1), 0), Image.fromarray(pixels[..., 3])]).save(tmp_path / "la.png")
    assert read(tmp_path / "la.png")[..., 0].tolist() == [[255, 0, 204]]
    assert read(tiff(tmp_path / "la.tif", 8, 1, 1, bytes([0, 0, 0, 255, 0, 51]), 3, extra=1))[..., 0].tolist() == [
        [255, 0, 204]
    ]
    Image.fromarray(COLOURS[:1]).save(tmp_path / "rgb.png", transparency=(255, 0, 0))
    assert read(tmp_path / "rgb.png").tolist() == [[[255] * 3, *COLOURS[0, 1:].tolist()]]


@pytest.mark.parametrize(
    ("depth", "row", "key", "want"),
    [
        (1, b"\x40", 0, [255, 255]),
        (1, b"\x80", 1, [255, 0]),
        (2, b"\x60", 1, [255, 170]),
        (4, b"\x3f", 3, [255, 255]),
        (4, b"\x03", 3, [0, 255]),
        (4, b"\x01", 0, [255, 17]),
        (8, b"\x03\x30", 3, [255, 48]),
        (16, struct.pack(">2H", 770, 771), 770, [255, 3]),
    ],
)
def test_a_transparent_grey(depth, row, key, want, tmp_path):
    path = png(tmp_path / "x.png", depth, 0, row, 2, (b"tRNS", struct.pack(">H", key)))
    assert read(path)[0, :, 0].tolist() == want


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_the_first_frame_is_read(suffix, tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "white")]
    lossless = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:], **lossless)
    assert (read(tmp_path / f"x.{suffix}") == (255, 0, 0)).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    ("orientation", "turn"),
    list(
        enumerate(
            [
                lambda x: x,
                np.fliplr,
                lambda x: np.rot90(x, 2),
                np.flipud,
                np.transpose,
                lambda x: np.rot90(x, -1),
                lambda x: np.rot90(x, 2).T,
                np.rot90,
            ],
            start=1,
        )
    ),
)
def test_every_orientation(orientation, turn, dtype, tmp_path):
    pixels = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)
    stored = {np.uint8: pixels, np.uint16: pixels * np.uint16(257), np.float32: np.float32(pixels / 255)}[dtype]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for suffix in ("tif", *(() if dtype is np.float32 else ("png",))):
        Image.fromarray(stored).save(tmp_path / f"x.{suffix}", exif=exif)
        assert np.array_equal(read(tmp_path / f"x.{suffix}"), three(turn(pixels)))


@pytest.mark.parametrize(
    "suffix", ["png", "jpg", "gif", "bmp", "tif", "webp", "ppm", "jp2", "tga", "ico", "qoi", "sgi"]
)
def test_damaged_files_are_named(suffix, tmp_path, recwarn):
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    data = path.read_bytes()
    for kept in (0, 1, 10, len(data) // 4, len(data) // 2, len(data) * 9 // 10):
        path.write_bytes(data[:kept])
        with pytest.raises(ValueError, match=rf"x\.{suffix} cannot be read: \w"):
            show.read(path)
    assert not recwarn.list


def test_load_reads_every_kind_alike(tmp_path):
    exact = np.linspace(0, 255, 64).round().astype(np.uint8).reshape(8, 8)
    for name, pixels in (("a", exact), ("b", exact * np.uint16(257)), ("c", np.float32(exact / 255))):
        Image.fromarray(pixels).save(tmp_path / f"{name}.tif")
    a, b, c = show.load([tmp_path / f"{name}.tif" for name in "abc"], 8)
    assert torch.equal(a, b) and torch.equal(a, c) and torch.equal(a, torch.from_numpy(exact).expand(3, 8, 8))


# The figure -------------------------------------------------------------------------------------------------------


def test_captions_are_lam_and_all_mixers_mix_the_same_partners(images):
    figure = visualize.mix_grid(images, seed=4)
    titles = [at.get_title() for at in figure.axes if at.get_title()]
    assert titles == ["image", *visualize.MIXERS]
    assert len(figure.axes) == len(images) * (1 + len(visualize.MIXERS))
    want, partners = [], []
    for mixer in visualize.make_mixers().values():
        mixer.partners = "no_fixed_points"
        given = Evidence(ops.saliency(images)) if mixer.takes_evidence else None
        mixed, target = mixer(images, torch.arange(len(images)), seed=4, evidence=given)
        labels = target.label_lam.tolist()
        lines = [f"lam {value:.2f}" for value in target.lam.tolist()]
        if target.weights is not None:
            pairs = zip(target.lam.tolist(), labels, strict=True)
            lines = [f"lam   {lam:.2f}\nlabel {label:.2f}" for lam, label in pairs]
        want.append(lines)
        partners.append(target.perm.tolist())
    assert captions(figure) == [caption for row in zip(*want, strict=True) for caption in row]
    assert all(perm == partners[0] for perm in partners)
    shown = figure.axes[-1].images[0].get_array()  # of the last mixer and image
    torch.testing.assert_close(torch.from_numpy(np.array(shown)), mixed[-1].permute(1, 2, 0))


def test_the_cells_do_not_overlap(images):
    figure = visualize.mix_grid(images, model=classifier.make())
    figure.draw_without_rendering()
    boxes = [at.get_tightbbox() for at in figure.axes]
    for at, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        for other in boxes[at + 1 :]:
            assert (
                min(box.x1, other.x1) - max(box.x0, other.x0) < 1 or min(box.y1, other.y1) - max(box.y0, other.y0) < 1
            )


def test_captions_are_the_ratios_of_the_model(images):
    model = classifier.make()
    figure = visualize.mix_grid(images, {"cut": CutMix(), "soft": FMix(max_soft=0.3)}, seed=2, model=model)
    prepared, model = visualize._preparation(model, images, *visualize.IMAGENET), model.eval()
    labels = model(prepared(images)).argmax(dim=1)
    mixed, target = CutMix(partners="no_fixed_points")(images, labels, seed=2)
    found = visualize.ratios(model, prepared(images), prepared(mixed), target)
    assert list(found) == ["area", "semantic", "published", "foreground", "feature", "cam"]
    for i, caption in enumerate(captions(figure)[::2]):
        lines = [line.split() for line in caption.split("\n")]
        assert lines == [[name.replace("area", "lam"), f"{ratio[i]:.2f}"] for name, ratio in found.items()]


@pytest.mark.parametrize("shape", [(2, 3, 24, 48), (2, 3, 48, 24), (2, 1, 16, 16), (3, 3, 1, 9), (2, 3, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
def test_images_of_other_kinds(shape, dtype):
    images = (torch.rand(shape) * (255 if dtype is torch.uint8 else 1)).to(dtype)
    figure = visualize.mix_grid(images, {"cut": CutMix(), "up": MixUp()})
    assert len(captions(figure)) == 2 * shape[0]
    figure.draw_without_rendering()


def test_float_images_give_the_ratios_of_uint8_ones(images):
    model, mixers = classifier.make(), {"cut": CutMix()}
    whole = visualize.mix_grid(images, mixers, model=model)
    assert captions(visualize.mix_grid(images / 255, mixers, model=model)) == captions(whole)


def test_the_mixers_are_left_as_they_were(images):
    generator = torch.Generator().manual_seed(0)
    mixer = CutMix(num_classes=6, label_smoothing=0.1, normalize=([0.5] * 3, [0.2] * 3), generator=generator)
    inplace, before = CutMix(inplace=True), generator.get_state()
    original = images.clone()
    options = [dict(vars(one)) for one in (mixer, inplace)]
    either = RandomMix([CutMix(), MixUp()], per_sample=True)
    figure = visualize.mix_grid(images, {"soft": mixer, "in place": inplace, "either": either})
    assert all(vars(one) == option for one, option in zip((mixer, inplace), options, strict=True))
    assert torch.equal(generator.get_state(), before) and torch.equal(images, original)
    assert captions(figure)[0] == captions(figure)[1] and len(captions(figure)) == 9


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": [1]}, TypeError, "images must be a Tensor"),
        ({"images": torch.zeros(2, 3, 4, 4, dtype=torch.int64)}, TypeError, "images must be uint8, or floating"),
        ({"images": torch.zeros(1, 3, 4, 4)}, ValueError, "with N > 1, got \\(1, 3, 4, 4\\)"),
        ({"images": torch.zeros(2, 2, 4, 4)}, ValueError, "images must be"),
        ({"images": torch.full((2, 3, 4, 4), 2.0)}, ValueError, "from 0 to 1, got 2 to 2"),
        ({"images": torch.full((2, 3, 4, 4), 1.0000001)}, ValueError, "from 0 to 1, got 1.00000012 to 1.00000012"),
        ({"images": torch.full((2, 3, 4, 4), -0.1)}, ValueError, "from 0 to 1, got -0.1"),
        ({"images": torch.full((2, 3, 4, 4), 255, dtype=torch.float16)}, ValueError, "from 0 to 1, got 255 to 255"),
        ({"images": torch.full((2, 3, 4, 4), torch.nan)}, ValueError, "from 0 to 1, got nan to nan"),
        ({"images": torch.zeros(2, 3, 4, 4, dtype=torch.bool)}, TypeError, "images must be uint8, or floating"),
        ({"images": torch.zeros(2, 3, 4, 4, dtype=torch.int16)}, TypeError, "images must be uint8, or floating"),
        ({"images": torch.zeros(2, 3, 4, 4, dtype=torch.uint16)}, TypeError, "images must be uint8, or floating"),
        ({"mixers": {}}, TypeError, "mixers must map titles"),
        ({"mixers": [CutMix()]}, TypeError, "mixers must map titles"),
        ({"mixers": {"cut": "CutMix"}}, TypeError, "mixers\\['cut'\\] must be one of sumix's transforms, got str"),
        ({"labels": torch.zeros(5, dtype=torch.int64)}, ValueError, "labels must be"),
        ({"model": "resnet"}, TypeError, "model must be an nn.Module, got str"),
        ({"model": nn.Identity()}, ValueError, "model must return logits \\(N, K\\), got \\(3, 3, 32, 32\\)"),
        ({"model": classifier.make(), "names": "cam"}, TypeError, "names must be a sequence"),
        ({"model": classifier.make(), "names": ["area"]}, ValueError, "names must be one of"),
        (
            {"model": classifier.make(), "mean": [0.5, 0.5]},
            ValueError,
            "mean must be a number, or one for each of the 3",
        ),
        ({"model": classifier.make(), "mean": [124, 116, 104]}, ValueError, "mean must be from 0 to 1"),
        ({"model": classifier.make(), "mean": torch.tensor(torch.nan)}, ValueError, "mean must be from 0 to 1"),
        ({"model": classifier.make(), "std": [58, 57, 57]}, ValueError, "std must be above 0 and at most 1"),
        ({"model": classifier.make(), "std": torch.tensor(torch.nan)}, ValueError, "std must be above 0 and at most 1"),
    ],
)
def test_bad_arguments(images, change, error, message):
    with pytest.raises(error, match=message):
        visualize.mix_grid(**{"images": images, **change})


# The model --------------------------------------------------------------------------------------------------------


def state_of(model):
    """All that could be changed: for each module its mode, hooks and attributes, and every tensor."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    modules = {
        name: (module.training, [list(getattr(module, kind).values()) for kind in hooks], sorted(vars(module)))
        for name, module in model.named_modules()
    }
    return modules, copy.deepcopy(model.state_dict()), [p.grad for p in model.parameters()]


def assert_same_state(model, before):
    modules, tensors, grads = state_of(model)
    assert modules == before[0] and grads == before[2]
    assert all(torch.equal(tensors[name], value) for name, value in before[1].items())


@pytest.mark.parametrize("mode", ["train", "eval", "mixed"])
def test_the_model_is_left_as_it_was(images, mode):
    model = classifier.make().train(mode != "eval")
    if mode == "mixed":
        model[1].eval()  # frozen statistics
    calls = []
    model.register_forward_hook(lambda module, *_: calls.append(module.training))
    before, random = state_of(model), torch.get_rng_state()
    visualize.mix_grid(images, {"cut": CutMix(), "up": MixUp()}, model=model)
    assert_same_state(model, before)
    assert torch.equal(torch.get_rng_state(), random)
    assert calls == [False] * 3  # the unmixed images once, and each mix


def test_it_is_left_as_it_was_if_something_fails(images):
    model = classifier.make()
    before = state_of(model)
    cases = [
        ({"labels": torch.full((3,), 9)}, "y_a|labels"),
        ({"layer": "9"}, "layer '9' gave"),
        ({"layer": "nothing"}, "layer must be"),
        ({"mean": [1, 2]}, "mean must be"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            visualize.mix_grid(images, model=model, **arguments)
        assert_same_state(model, before)


def test_ratios_are_those_of_the_loss_in_evaluation_mode(images):
    model = classifier.make()
    model(torch.randn(20, 3, 32, 32))  # statistics that are not those of the images
    x = visualize._preparation(model, images, *visualize.IMAGENET)(images)
    mixed, target = CutMix(partners="no_fixed_points")(x, torch.tensor([3, 0, 5]), seed=1)
    found = visualize.ratios(model, x, mixed, target)
    assert torch.equal(found["area"], target.lam)
    model.eval()
    with torch.no_grad():
        features, outputs = model[:6](x), (model(mixed), model(x))
    for ratio, scale in (("semantic", None), ("published", 100.0), ("feature", None)):
        criterion = SUMixLoss(gamma=0.0, ratio=ratio, distance_scale=scale, return_parts=True)
        torch.testing.assert_close(found[ratio], criterion(*outputs, target, features=features)[1].lam)
    where = {"box": target.box, "size": target.image_size, "evidence": "cam"}
    where |= {"class_weight": model[-1].weight, "labels": target.y_a}
    torch.testing.assert_close(
        found["cam"], sumix.ops.masked_similarity(features, target.perm, target.lam, **where).lam
    )


def test_ratios_refuses_images_that_are_not_the_mixed_ones(images):
    x = images / 255
    mixed, target = CutMix(partners="no_fixed_points")(x, torch.tensor([3, 0, 5]), seed=1)
    for change, error, message in (
        ({"images": x.tolist()}, TypeError, "images must be a Tensor"),
        ({"images": x[:2]}, ValueError, "mixed must have the shape of images, \\(2, 3, 32, 32\\)"),
        ({"images": images}, TypeError, "mixed must have the dtype of images, torch.uint8, got torch.float32"),
        ({"images": x / 0}, ValueError, "images must be finite"),
        ({"mixed": mixed.where(mixed < 0.5, torch.nan)}, ValueError, "mixed must be finite"),
    ):
        with pytest.raises(error, match=message):
            visualize.ratios(classifier.make(), **{"images": x, "mixed": mixed, "target": target, **change})


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_levels_are_drawn_as_they_are(dtype):
    levels = torch.tensor([0.0, 0.25, 0.5, 1.0]).view(1, 1, 2, 2)
    images = (levels * 255 if dtype is torch.uint8 else levels).to(dtype).expand(2, 1, 2, 2)
    shown = visualize.mix_grid(images, {"cut": CutMix()}).axes[0].images[0]
    grey = shown.to_rgba(shown.get_array(), bytes=True)[..., 0]
    assert np.abs(grey.astype(int) - [[0, 64], [128, 255]]).max() <= 1
    shown = visualize.mix_grid(images.expand(2, 3, 2, 2), {"cut": CutMix()}).axes[0].images[0]
    assert np.abs(shown.make_image(None, unsampled=True)[0][..., 0].astype(int) - [[0, 64], [128, 255]]).max() <= 1


def test_models_of_other_kinds(images):
    mixed, target = CutMix(partners="no_fixed_points")(images / 255, torch.tensor([3, 0, 5]), seed=1)
    plain = classifier.make()
    want = visualize.ratios(plain, images / 255, mixed, target)

    head = classifier.make()
    head[-1] = SUMixHead(12, 6)
    head[-1].classifier = plain[-1]
    captured = classifier.make()
    capture_features(captured)
    captured.eval()(images / 255)  # its hooks have done what they do to the model
    captured.train()
    fussy, parallel = classifier.Fussy(), nn.DataParallel(plain)
    for model in (head, captured, fussy, parallel):
        before = state_of(model)
        found = visualize.ratios(model, images / 255, mixed, target)
        assert list(found) == list(want)
        assert all(torch.equal(found[name], want[name]) for name in want)
        assert_same_state(model, before)

    flat = classifier.make_flat()
    assert list(visualize.ratios(flat, images / 255, mixed, target)) == ["area", "semantic", "published"]
    early = visualize.ratios(plain, images / 255, mixed, target, layer="2")
    assert list(early) == [
        "area",
        "semantic",
        "published",
        "foreground",
        "feature",
    ]
    # and no class activation: 8 channels, where the classifier sees 12
    only = visualize.ratios(plain, images / 255, mixed, target, names=["cam", "semantic"])
    assert list(only) == ["area", "cam", "semantic"]
    half = copy.deepcopy(plain).to(torch.bfloat16)
    assert len(captions(visualize.mix_grid(images, {"cut": CutMix()}, model=half))) == 3


# The gallery ------------------------------------------------------------------------------------------------------


def test_the_gallery_is_what_its_command_makes(tmp_path, monkeypatch):
    section = (ROOT / "README.md").read_text().split("## Gallery")[1].split("\n## ")[0]
    command = re.search(r"\$ .venv/bin/python -m sumix.show (.*?)\n```", section, re.DOTALL)[1].replace("\\\n", " ")
    stem, names = re.search(r"(\S*)\{(.*?)\}", command).groups()
    assert stem.endswith("/skimage/data/")
    files = [str(PATHS["astronaut"].parent / name) for name in names.split(",")]
    options = shlex.split(command.replace(f"{stem}{{{names}}}", ""))
    assert options[:2] == ["-o", "benchmarks/gallery.jpg"]
    assert show.main([*files, "-o", str(tmp_path / "gallery.jpg"), *options[2:]]) == 0
    assert (ROOT / "benchmarks" / "gallery.jpg").stat().st_size < 200_000
    with Image.open(ROOT / "benchmarks" / "gallery.jpg") as kept, Image.open(tmp_path / "gallery.jpg") as made:
        assert kept.size == made.size
        apart = np.abs(np.asarray(kept, dtype=np.int16) - np.asarray(made, dtype=np.int16))
    assert apart.mean() < 3  # another matplotlib may draw another font
