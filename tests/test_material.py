"""Rows from files: pictures, sounds and tables, in an order that never changes, and refused by name."""

from __future__ import annotations

import json
import struct
import sys
import wave
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from snnc.data import stored as stored_rows
from snnc.data.decoding import Decoding
from snnc.data.material import Material, read_material
from snnc.data.pictures import read_picture
from snnc.data.preprocessing import PRESETS, Preprocessing
from snnc.errors import InputError, NonFiniteError, UsageError

RNG = np.random.default_rng(0)


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (8, 6), **options: Any) -> np.ndarray:
    """Write a picture of noise; ``size`` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    values = RNG.integers(0, 256, shape, np.uint8)
    Image.fromarray(values).save(path, **options)
    return values


def sound(path: Path, frames: bytes, width: int = 2, channels: int = 1, rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setsampwidth(width)
        file.setnchannels(channels)
        file.setframerate(rate)
        file.writeframes(frames)


def refused(path: Path, preprocessing: dict[str, Any] | None = None) -> str:
    given = None if preprocessing is None else Preprocessing.from_dict(preprocessing)
    with pytest.raises(InputError) as caught:
        read_material(path, given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read(path: Path, **preprocessing: Any) -> Material:
    return read_material(path, Preprocessing.from_dict(preprocessing))


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
            ((), "no pictures and no sounds"),
            (("a.png", "c/b.png"), "holds files, such as a.png, and folders, such as c"),
            (("a/b/c.png",), "holds the folder b"),
            (("a/b.png", "c/"), "c is empty"),
            (("a.png", "b.doc"), "b.doc is neither a picture nor a sound"),
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


class TestLabelsOfLists:
    def test_numbers_are_no_names(self, tmp_path: Path) -> None:
        for name in ("a.png", "b.png", "c.png"):
            Image.new("L", (4, 3)).save(tmp_path / name)
        file = tmp_path / "l.txt"
        for labels, expected in (
            (["-1.5", "12", "3"], [-1.5, 12, 3]),
            (["10", "2", "0"], [10, 2, 0]),
            (["dog", "cat", "dog"], [1, 0, 1]),
        ):
            file.write_text("\n".join(f"{name}.png {y}" for name, y in zip("abc", labels, strict=True)))
            found = read_material(file).y
            assert found is not None
            assert found.tolist() == expected
        file.write_text("a.png cat\nb.png 2\n")
        assert "others are numbers" in refused(file)
        file.write_text("a.png nan\nb.png 2\n")
        with pytest.raises(NonFiniteError, match="labels"):
            read_material(file)


class TestSounds:
    @given(values=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=9), width=st.integers(1, 4))
    def test_every_width(
        self, tmp_path_factory: pytest.TempPathFactory, values: list[int], width: int
    ) -> None:
        folder = tmp_path_factory.mktemp("sounds")
        cut = [value >> 8 * (4 - width) for value in values]
        data = b"".join(
            (value + 128).to_bytes(1, "little")
            if width == 1
            else value.to_bytes(width, "little", signed=True)
            for value in cut
        )
        sound(folder / "a.wav", data, width)
        found = read_material(folder).x
        assert found.dtype == np.float32
        expected = np.array([[value / 2 ** (8 * width - 1) for value in cut]], np.float32)
        assert np.array_equal(found, expected)

    def test_channels_stay_apart(self, tmp_path: Path) -> None:
        sound(tmp_path / "a.wav", np.arange(8, dtype="<i2").tobytes(), channels=2)
        found = read_material(tmp_path).x
        assert found.shape == (1, 4, 2)
        assert found[0, 1].tolist() == [2 / 2**15, 3 / 2**15]

    def test_classes_and_lengths(self, tmp_path: Path) -> None:
        sound(tmp_path / "yes" / "a.wav", np.arange(4, dtype="<i2").tobytes())
        sound(tmp_path / "no" / "a.wav", np.arange(6, dtype="<i2").tobytes())
        said = refused(tmp_path)
        assert "is 4 samples long, 1 channel where the first" in said
        assert "`samples`" in said
        found = read(tmp_path, samples=5)
        assert found.y is not None
        assert found.y.tolist() == [0, 1]
        assert (found.x[1] * 2**15).tolist() == [0, 1, 2, 3, 0]
        assert (found.x[0] * 2**15).tolist() == [0, 1, 2, 3, 4]

    def test_rates(self, tmp_path: Path) -> None:
        sound(tmp_path / "a.wav", b"\0\0")
        assert read(tmp_path, sample_rate=8000).x.shape == (1, 1)
        assert "8000 samples per second where `sample_rate` is 16000" in refused(
            tmp_path, {"sample_rate": 16000}
        )
        sound(tmp_path / "b.wav", b"\0\0", rate=16000)
        assert "b.wav has 16000 samples per second where the first" in refused(tmp_path)

    def test_without_samples(self, tmp_path: Path) -> None:
        sound(tmp_path / "a.wav", b"")
        for keys in ({}, {"samples": 4}):
            assert "a.wav holds no samples" in refused(tmp_path, keys)

    def test_damaged(self, tmp_path: Path) -> None:
        sound(tmp_path / "a.wav", bytes(100))
        whole = (tmp_path / "a.wav").read_bytes()
        for kept in (0, 3, 12, 20, 40, 60):
            (tmp_path / "a.wav").write_bytes(whole[:kept])
            assert "a.wav" in refused(tmp_path)
        (tmp_path / "a.wav").write_bytes(whole.replace(b"\x01\x00\x01\x00", b"\x03\x00\x01\x00", 1))
        assert "PCM" in refused(tmp_path)

    @pytest.mark.parametrize("place", [4, 16, 40])
    @pytest.mark.parametrize("length", [0, 1, 2**16, 2**31 - 1, 2**32 - 1])
    def test_forged_lengths(self, tmp_path: Path, place: int, length: int) -> None:
        """Those of the file, of its format and of its samples."""
        sound(tmp_path / "a.wav", bytes(240))
        whole = (tmp_path / "a.wav").read_bytes()
        (tmp_path / "a.wav").write_bytes(whole[:place] + struct.pack("<I", length) + whole[place + 4 :])
        said = ""
        try:
            assert read_material(tmp_path).x.shape == (1, 120)
        except InputError as error:
            said = str(error)
        assert not said or ("a.wav" in said and "\n" not in said)


class TestTables:
    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    def test_with_a_header(self, tmp_path: Path, separator: str) -> None:
        file = tmp_path / "a.csv"
        lines = [["a", "Label", "b c"], ["1", "2", "-3e2"], ["4.5", "0", " 6 "]]
        file.write_text("\n".join(separator.join(line) for line in lines) + "\n\n")
        found = read_material(file)
        assert found.x.tolist() == [[1, -300], [4.5, 6]]
        assert found.y is not None
        assert found.y.tolist() == [2, 0]
        assert found.y.dtype.kind == "i"
        assert read_material(file, limit=1).x.tolist() == [[1, -300]]

    def test_without_a_header(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("1,2\n3,4")
        found = read_material(tmp_path / "a.csv")
        assert found.y is None
        assert found.x.tolist() == [[1, 2], [3, 4]]

    def test_a_column_by_its_name(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        file.write_text("y,kind,z\n1,setosa,2\n3,iris,4\n")
        for found in (read_material(tmp_path / "a.csv#kind"), read(file, labels="kind")):
            assert found.x.tolist() == [[1, 2], [3, 4]]
            assert found.y is not None
            assert found.y.tolist() == [1, 0]
            assert "0 iris, 1 setosa" in found.told
        assert "no column 'x'; it has y, kind, z" in refused(tmp_path / "a.csv#x")
        file.write_text("y,z\n1.5,2\n")
        found = read_material(file)
        assert found.y is not None
        assert found.y.tolist() == [1.5]

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "no rows"),
            ("a,b\n", "no rows"),
            ("label\n1", "no features"),
            ("a,b\n1,2\n3", "line 3: 1 cells where the first row has 2"),
            ("a,b\n1,\n", "line 2: an empty cell"),
            ("a,b\n1,x\n", "line 2: 'x', which is no number"),
            ("a,y\n1,x\n1,2", "the label of row 1 is 'x', and others are numbers"),
            ("a,y\n1,\n", "row 1 has no label"),
            ("y,Label,a\n1,2,3", "several columns of labels"),
            ("a,b,label\n7,1,2,0\n8,3,4,1", "the header has 3 cells, and the first row 4"),
            ("a,b,label,c\n1,2,0\n3,4,1", "the header has 4 cells, and the first row 3"),
            ("0,1,2\n3,4,5", "may be a header or a row"),
            ("a,b\n1,1e39\n", "NaN or infinity"),
        ],
    )
    def test_tables_that_are_refused(self, tmp_path: Path, text: str, says: str) -> None:
        (tmp_path / "a.csv").write_text(text)
        with np.errstate(over="ignore"):
            assert says in refused(tmp_path / "a.csv")

    def test_classes_do_not_depend_on_the_number_of_rows(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("a,label\n1,cat\n2,dog\n3,ant\n")
        found = read_material(tmp_path / "a.csv", limit=2)
        assert found.x.tolist() == [[1], [2]]
        assert found.y is not None
        assert found.y.tolist() == [1, 2]
        assert "0 ant, 1 cat, 2 dog" in found.told

    @pytest.mark.parametrize("first", [",,\n", "\n , ,\n"])
    def test_empty_lines_before_the_first(self, tmp_path: Path, first: str) -> None:
        (tmp_path / "a.csv").write_text(f"{first}1,2,3\n4,5,6\n")
        assert read_material(tmp_path / "a.csv").x.tolist() == [[1, 2, 3], [4, 5, 6]]
        (tmp_path / "a.csv").write_text(f"{first}a,b,label\n4,5,6\n")
        found = read_material(tmp_path / "a.csv")
        assert found.x.tolist() == [[4, 5]]
        assert found.y is not None
        assert found.y.tolist() == [6]

    def test_a_header_of_several_lines(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text('"a\n(cm)",b,label\n4,5,6\n')
        found = read_material(tmp_path / "a.csv")
        assert found.x.tolist() == [[4, 5]]
        assert found.y is not None
        assert found.y.tolist() == [6]

    def test_numbers_that_are_none(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("a,b\n1,nan\n")
        with pytest.raises(NonFiniteError, match="line 2"):
            read_material(tmp_path / "a.csv")
        (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
        assert "UTF-8" in refused(tmp_path / "a.csv")
        assert "does not exist" in refused(tmp_path / "none.csv")


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


class TestNumPyFiles:
    def test_large_arrays_are_mapped(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        x = RNG.standard_normal((40, 5)).astype(np.float32)
        y = np.arange(40)
        np.save(tmp_path / "a.npy", x)
        np.savez_compressed(tmp_path / "a.npz", x=x, y=y)
        np.savez(tmp_path / "b.npz", x=np.asfortranarray(x), y=y)
        monkeypatch.setattr(stored_rows, "IN_MEMORY", 100)
        assert isinstance(read_material(tmp_path / "a.npy").x, np.memmap)
        for name in ("a.npz", "b.npz"):
            found = read_material(tmp_path / name)
            assert np.array_equal(found.x, x)
            assert found.y is not None
            assert np.array_equal(found.y, y)
        assert isinstance(read_material(tmp_path / "a.npz").x, np.memmap)

    def test_no_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.posix_fallocate", full, raising=False)
        with pytest.raises(InputError, match="TMPDIR"):
            stored_rows.stored((1 << 20, 1 << 10), np.uint8)


def test_a_picture_alone(tmp_path: Path) -> None:
    values = picture(tmp_path / "a.png")
    assert np.array_equal(read_picture(tmp_path / "a.png", Decoding()), values)
