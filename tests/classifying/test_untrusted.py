"""A model file that somebody sent runs no code, and new weights beside it are noticed."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from diffex_dagster.classifying.onnx_adapter import OnnxClassifier
from diffex_dagster.classifying.torch_file_adapter import ExportedClassifier, TorchFileClassifier
from diffex_dagster.classifying.untrusted import checked_export
from diffex_dagster.errors import ClassifierError
from tests.support.onnx_models import WEIGHTS, save

LABELS = ("cold", "warm")
PICTURES = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "grey")]


class Mean(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.linear(pixels.mean(dim=[2, 3]))


class Writes(Mean):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        torch.save(pixels, "written.bin")
        return self.linear(pixels.mean(dim=[2, 3]))


class Command:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "good.pt2"
    batch = ({0: torch.export.Dim("n")},)
    torch.export.save(torch.export.export(Mean().eval(), (torch.rand(2, 3, 16, 16),), dynamic_shapes=batch), file)
    return file


def changed(file: Path, name: str, part: str, content: bytes | tuple[bytes, bytes]) -> Path:
    """A copy of an archive in which the entry whose name holds `part` has another content, or a replaced text."""
    out = file.parent / name
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(out, "w") as new:
        found = 0
        for entry in old.namelist():
            data = old.read(entry)
            if part in entry:
                found += 1
                data = data.replace(*content) if isinstance(content, tuple) else content
                assert data != old.read(entry)
            new.writestr(entry, data)
        assert found
    return out


def pickled() -> bytes:
    buffer = io.BytesIO()
    torch.save({"command": Command()}, buffer)
    return buffer.getvalue()


def test_an_exported_program_of_tensors_is_read_and_gives_the_same_scores(exported: Path) -> None:
    made = ExportedClassifier(exported, LABELS)
    trusted = ExportedClassifier(exported, LABELS, trusted=True)
    assert made(PICTURES) == pytest.approx(trusted(PICTURES)) and made.fingerprint == trusted.fingerprint
    assert made.preprocessing.size == (16, 16)


@pytest.mark.parametrize(
    ("part", "content", "what"),
    [
        ("sample_inputs", pickled(), "a pickle of something else than tensors"),
        ("models/", (b"torch.ops.aten.linear.default", b"torch.os.system"), r"the function 'torch\.os\.system'"),
        ("models/", (b"torch.ops.aten.linear.default", b"torch.ops.aten.from_file.default"), "the function"),
        ("models/", (b"Symbol('", b"__import__('os').system('touch ran') or Symbol('"), "the expression"),
        ("models/", (b"builtins.tuple", b"collections.defaultdict"), "inputs or outputs of the type"),
        ("weights/model_weights_config", (b'"use_pickle": false', b'"use_pickle": true'), "a pickle"),
        ("byteorder", b"x", ""),
    ],
)
def test_an_exported_program_that_would_run_code_is_refused(
    exported: Path, part: str, content: bytes | tuple[bytes, bytes], what: str
) -> None:
    file = changed(exported, "evil.pt2", part, content)
    if not what:
        return
    with pytest.raises(ClassifierError, match=f"trusted: the file holds {what}.*write trusted: true where you know"):
        ExportedClassifier(file, LABELS)(PICTURES)
    assert not Path("ran").exists()


def test_compiled_code_in_an_exported_program_is_refused(exported: Path) -> None:
    with zipfile.ZipFile(exported, "a") as archive:
        archive.writestr("good/data/aotinductor/model/model.so", b"\x7fELF")
    with pytest.raises(ClassifierError, match="an entry that is neither weights nor a program"):
        checked_export(exported)


def test_checks_of_shapes_that_torch_would_compile_are_left_out(exported: Path) -> None:
    content = (b'"guards_code": []', b"\"guards_code\": [\"__import__('os').system('touch ran')\"]")
    made = ExportedClassifier(changed(exported, "guards.pt2", "models/", content), LABELS)
    assert made(PICTURES).shape == (3, 2) and not Path("ran").exists()


def test_torchscript_that_writes_files_needs_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.jit.script(Mean().eval()).save("good.ts")
    assert TorchFileClassifier(Path("good.ts"), LABELS)(PICTURES).shape == (3, 2)
    torch.jit.script(Writes().eval()).save("evil.ts")
    with pytest.raises(ClassifierError, match="trusted: the file holds a call of 'save' in code/"):
        TorchFileClassifier(Path("evil.ts"), LABELS)(PICTURES)
    assert not Path("written.bin").exists()
    TorchFileClassifier(Path("evil.ts"), LABELS, trusted=True)(PICTURES)
    assert Path("written.bin").exists()


class OnCuda(torch.nn.Module):
    """Exported on a machine with a GPU, which its graph names."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean(dim=[2, 3])[:, :2] + torch.zeros([2], device="cuda:0")


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is here")
def test_a_device_that_is_written_into_a_file_is_named(tmp_path: Path) -> None:
    torch.jit.script(OnCuda().eval()).save(tmp_path / "m.pt")
    with pytest.raises(ClassifierError, match=r"'CUDA' backend.*; the file names a CUDA device: export it on a CPU"):
        TorchFileClassifier(tmp_path / "m.pt", LABELS, device="cpu")(PICTURES)


def test_what_torch_cannot_read_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": Mean().state_dict()}, tmp_path / "state.pt")
    (tmp_path / "lfs.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    for name, what in (("state.pt", "a checkpoint that torch.save wrote"), ("lfs.pt", "run `git lfs pull`")):
        with pytest.raises(ClassifierError, match=f"cannot load it .*{what}"):
            TorchFileClassifier(tmp_path / name, LABELS)(PICTURES)


def test_a_softmax_at_the_end_of_a_torch_file_is_seen(tmp_path: Path) -> None:
    model = torch.nn.Sequential(Mean(), torch.nn.Softmax(dim=1)).eval()
    torch.jit.script(model).save(tmp_path / "m.ts")
    with pytest.raises(ClassifierError, match="last operator is a softmax.*write outputs: probabilities"):
        TorchFileClassifier(tmp_path / "m.ts", LABELS)(PICTURES[:1])
    torch.export.save(torch.export.export(model, (torch.rand(2, 3, 16, 16),)), tmp_path / "m.pt2")
    with pytest.raises(ClassifierError, match="last operator is a softmax.*write outputs: probabilities"):
        ExportedClassifier(tmp_path / "m.pt2", LABELS)(PICTURES[:1])
    assert ExportedClassifier(tmp_path / "m.pt2", LABELS, outputs="probabilities")(PICTURES).shape == (3, 2)


def test_weights_beside_an_onnx_file_are_part_of_its_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    first = OnnxClassifier(save(tmp_path / "model" / "m.onnx", external="weights.bin"), LABELS)
    before, kept = first(PICTURES), first.fingerprint
    second = OnnxClassifier(save(tmp_path / "model" / "m.onnx", external="weights.bin", weights=2 * WEIGHTS), LABELS)
    assert second(PICTURES) == pytest.approx(2 * before) and second.fingerprint != kept
    for outside in ("../weights.bin", str(tmp_path / "weights.bin")):
        file = save(tmp_path / "model" / "out.onnx", external=outside)
        with pytest.raises(ClassifierError, match="outside its own folder"):
            OnnxClassifier(file, LABELS).fingerprint
    (tmp_path / "model" / "weights.bin").unlink()
    with pytest.raises(ClassifierError, match="weights are in 'weights.bin', which is missing"):
        OnnxClassifier(tmp_path / "model" / "m.onnx", LABELS)(PICTURES)
