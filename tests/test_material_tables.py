"""Rows from tables, NumPy files and lists of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from snnc.data import stored as stored_rows
from snnc.data.material import read_material
from snnc.errors import InputError, NonFiniteError
from tests.material_files import read, refused


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


class TestNumPyFiles:
    def test_large_arrays_are_mapped(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        x = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
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
