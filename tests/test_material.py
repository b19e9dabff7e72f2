"""Rows from pictures in folders: in an order that never changes, and refused by name."""

from __future__ import annotations

import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from snnc.data import stored as stored_rows
from snnc.data.decoding import Decoding
from snnc.data.material import read_material
from snnc.data.pictures import read_picture
from snnc.data.preprocessing import PRESETS, Preprocessing
from snnc.errors import InputError, UsageError
from tests.material_files import picture, read, refused


class TestFolders:
    def test_a_folder_in_the_order_of_its_names(self, tmp_path: Path) -> None:
        made = {name: picture(tmp_path / name) for name in ("b.png", "a.BMP", "10.png", "9.png", "ä.png")}
        (tmp_path / "README.md").write_text("notice")
        (tmp_path / ".hidden.png").write_bytes(b"")
        found = read_material(tmp_path)
        assert found.y is None
        assert found.told == ""
        assert np.array_equal(found.x, [made[name] for name in sorted(made)])
        assert np.array_equal(read_material(tmp_path, limit=2).x, found.x[:2])

    def test_class_folders(self, tmp_path: Path) -> None:
        dog, cats = (
            picture(tmp_path / "dog" / "1.png"),
            [picture(tmp_path / "cat" / f"{i}.png") for i in "21"],
        )
        found = read_material(tmp_path)
        assert found.y is not None
        assert found.y.tolist() == [0, 0, 1]
        assert np.array_equal(found.x, [cats[1], cats[0], dog])
        assert found.told == f"labels of {tmp_path}, by sorted names: 0 cat, 1 dog"
        assert "1.png, the first of 3 pictures" in found.name

    def test_numbers_as_names(self, tmp_path: Path) -> None:
        for name in ("0", "1", "2"):
            picture(tmp_path / "good" / name / "a.png")
            picture(tmp_path / "bad" / str(int(name) + 9) / "a.png")
        assert read_material(tmp_path / "good").x.shape == (3, 6, 8, 3)
        assert "in order as text" in refused(tmp_path / "bad")

    @pytest.mark.parametrize(
        ("files", "says"),
        [
            ((), "no pictures, sounds or recordings"),
            (("a.png", "c/b.png"), "holds files, such as a.png, and folders, such as c"),
            (("a/b/c.png",), "holds the folder b"),
            (("a/b.png", "c/"), "c is empty"),
            (("a.png", "b.doc"), "b.doc is no picture, sound or recording"),
            (("a.png", "b.wav"), "of different kinds"),
        ],
    )
    def test_folders_that_are_refused(self, tmp_path: Path, files: tuple[str, ...], says: str) -> None:
        for name in files:
            path = tmp_path / name
            (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
            if not name.endswith("/"):
                path.write_bytes(b"")
        assert says in refused(tmp_path)

    def test_a_list(self, tmp_path: Path) -> None:
        first, second = picture(tmp_path / "in" / "a b.png"), picture(tmp_path / "c.png")
        where = tmp_path / "rows.txt"
        where.write_text("# rows\nc.png 7\n\nin/a b.png 2\n")
        found = read_material(where)
        assert found.y is not None
        assert (found.y.tolist(), found.told) == ([7, 2], "")
        assert np.array_equal(found.x, [second, first])
        where.write_text("c.png\tz y\nin/a b.png\ta\n")
        found = read_material(where)
        assert found.y is not None
        assert found.y.tolist() == [1, 0]
        assert "0 a, 1 z y" in found.told
        where.write_text("c.png\nin/a b.png")
        assert read_material(where).y is None

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "lists no files"),
            ("c.png 1\nc.png", "line 2: 'c.png' has no label"),
            ("nothing.png 1", "line 1: 'nothing.png 1' names no file"),
            ("c.png 1\n\0 2", "line 2"),
        ],
    )
    def test_lists_that_are_refused(self, tmp_path: Path, text: str, says: str) -> None:
        picture(tmp_path / "c.png")
        where = tmp_path / "rows.txt"
        where.write_text(text)
        assert says in refused(where)
        assert "does not exist" in refused(tmp_path / "none.txt")


class TestPictures:
    @pytest.mark.parametrize("size", [(8, 6), (6, 8), (7, 7), (301, 97)])
    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
    def test_resized_and_cut_as_pillow_does(
        self, tmp_path: Path, size: tuple[int, int], interpolation: str
    ) -> None:
        values = picture(tmp_path / "a.png", size=size)
        found = read(tmp_path, resize=5, crop=[4, 5], interpolation=interpolation).x[0]
        width, height = size
        short = 5 / min(size)
        new = (5, int(5 * height / width)) if width <= height else (int(5 * width / height), 5)
        assert abs(new[0] - width * short) < 1
        resized = Image.fromarray(values).resize(new, Image.Resampling[interpolation.upper()])
        top, left = round((new[1] - 4) / 2), round((new[0] - 5) / 2)
        assert np.array_equal(found, np.asarray(resized)[top : top + 4, left : left + 5])

    def test_both_lengths(self, tmp_path: Path) -> None:
        picture(tmp_path / "a.png", "L")
        assert read(tmp_path, resize=[3, 5]).x.shape == (1, 3, 5)

    def test_one_channel_and_three(self, tmp_path: Path) -> None:
        grey, coloured = picture(tmp_path / "a.png", "L"), picture(tmp_path / "b.png")
        said = refused(tmp_path)
        assert "b.png is 6 x 8, 3 channels where the first" in said
        assert "set `mode`" in said
        found = read(tmp_path, mode="RGB").x
        assert np.array_equal(found[0], np.repeat(grey[..., None], 3, axis=2))
        assert np.array_equal(found[1], coloured)
        assert read(tmp_path, mode="L").x.shape == (2, 6, 8)

    def test_sizes_that_differ(self, tmp_path: Path) -> None:
        picture(tmp_path / "a.png")
        picture(tmp_path / "b.png", size=(9, 6))
        assert "b.png is 6 x 9, 3 channels where the first" in refused(tmp_path)
        assert "a.png is 6 x 8 where 7 x 8" in refused(tmp_path, {"crop": [7, 8]})

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "CMYK", "I;16", "I", "F"])
    def test_modes_that_are_refused(self, tmp_path: Path, mode: str) -> None:
        picture(tmp_path / "a.tif", "L" if mode in ("LA", "P", "1", "I", "I;16", "F") else "RGB")
        source = Image.new(mode, (8, 6))
        source.save(tmp_path / "b.tif")
        assert "b.tif is a picture" in refused(tmp_path)

    def test_palettes_where_they_are_asked_for(self, tmp_path: Path) -> None:
        values = picture(tmp_path / "a.png")
        Image.fromarray(values).quantize(16).save(tmp_path / "a.png")
        assert "set `mode`" in refused(tmp_path)
        expected = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
        assert np.array_equal(read(tmp_path, mode="RGB").x[0], expected)

    def test_sixteen_bits_are_not_cut_to_eight(self, tmp_path: Path) -> None:
        rows = b"".join(b"\0" + bytes(range(12)) for _ in range(2))
        (tmp_path / "deep.png").write_bytes(png(2, 2, 16, 2, rows))
        assert "more than 8 bits" in refused(tmp_path, {"mode": "RGB"})
        assert "more than 8 bits" in refused(tmp_path)

    def test_transparent_pixels(self, tmp_path: Path) -> None:
        Image.new("RGB", (4, 4)).save(tmp_path / "a.png", transparency=(0, 0, 0))
        assert "transparent" in refused(tmp_path, {"mode": "RGB"})

    def test_several_in_one_file(self, tmp_path: Path) -> None:
        frames = [Image.new("L", (4, 4), value) for value in (1, 2)]
        frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
        assert "several pictures" in refused(tmp_path)

    def test_a_bomb_is_refused_by_its_header(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(png(60_000, 60_000, 8, 2, b""))
        assert "a.png claims" in refused(tmp_path)
        (tmp_path / "a.png").write_bytes(png(9_000, 9_000, 8, 2, b""))
        assert "9000 x 9000 pixels" in refused(tmp_path)

    @pytest.mark.parametrize("kept", [0, 1, 8, 30, 60])
    @pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif", "webp", "ppm"])
    def test_damaged(self, tmp_path: Path, suffix: str, kept: int) -> None:
        file = tmp_path / f"a.{suffix}"
        picture(file, size=(40, 40))
        file.write_bytes(file.read_bytes()[:kept])
        said = refused(tmp_path, {"mode": "RGB"})
        assert str(file) in said

    def test_without_pillow(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        picture(tmp_path / "a.png")
        monkeypatch.setitem(sys.modules, "PIL", None)
        with pytest.raises(UsageError, match="pip install pillow"):
            read_material(tmp_path)

    def test_many_are_kept_on_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made = [picture(tmp_path / f"{index}.png") for index in range(3)]
        monkeypatch.setattr(stored_rows, "IN_MEMORY", 100)
        found = read_material(tmp_path)
        assert isinstance(found.x, np.memmap)
        assert np.array_equal(found.x, made)


def png(width: int, height: int, bits: int, colours: int, rows: bytes) -> bytes:
    """Return a PNG file by hand, whose header may claim anything."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    )


class TestPreprocessing:
    @pytest.mark.parametrize("name", sorted(PRESETS))
    def test_presets(self, name: str) -> None:
        found = Preprocessing.read(Path(f"preset:{name}"))
        assert found == Preprocessing.from_dict(PRESETS[name])
        assert Preprocessing.stored(json.loads(json.dumps(found.as_dict()))) == found
        with pytest.raises(InputError, match="known: preset:imagenet, preset:cifar10, preset:tf"):
            Preprocessing.read(Path("preset:none"))

    def test_what_imagenet_means(self, tmp_path: Path) -> None:
        picture(tmp_path / "a.jpg", "L", (400, 300))
        preset = Preprocessing.preset("imagenet")
        found = read_material(tmp_path, preset)
        assert found.preprocessing is not None
        x = found.preprocessing.apply(found.x, (3, 224, 224))
        pixels = np.asarray(
            Image.open(tmp_path / "a.jpg").convert("RGB").resize((341, 256), Image.Resampling.BILINEAR)
        )
        cut = pixels[16:240, 58:282].transpose(2, 0, 1) / np.float32(255)
        mean, std = (
            np.reshape(np.array(preset_values, np.float32), (3, 1, 1))
            for preset_values in (preset.mean, preset.std)
        )
        assert np.allclose(x[0], (cut - mean) / std, atol=1e-6)

    def test_a_file_beside_the_pictures(self, tmp_path: Path) -> None:
        picture(tmp_path / "a.png")
        (tmp_path / "images.json").write_text('{"divide": 255, "crop": 4}')
        found = read_material(tmp_path)
        assert found.x.shape == (1, 4, 4, 3)
        assert found.preprocessing is not None
        assert found.preprocessing.divide == 255
        other = Preprocessing(divide=2)
        assert read_material(tmp_path, other).x.shape == (1, 6, 8, 3)
        with pytest.raises(InputError, match=r"images.json prepares rows in another way than the artefact"):
            read_material(tmp_path, other, is_fixed=True)
        assert read_material(tmp_path, found.preprocessing, is_fixed=True).x.shape == (1, 4, 4, 3)

    @pytest.mark.parametrize(
        "values",
        [
            {"mode": "HSV"},
            {"resize": 0},
            {"resize": [1, 2, 3]},
            {"crop": True},
            {"crop": 2**20},
            {"interpolation": "best"},
            {"samples": 1.5},
            {"sample_rate": 0},
            {"labels": ""},
        ],
    )
    def test_values_that_are_refused(self, values: dict[str, Any]) -> None:
        (key,) = values
        with pytest.raises(InputError, match=f"`{key}`"):
            Preprocessing.from_dict(values)


def test_a_picture_alone(tmp_path: Path) -> None:
    values = picture(tmp_path / "a.png")
    assert np.array_equal(read_picture(tmp_path / "a.png", Decoding()), values)
