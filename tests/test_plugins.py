"""Modules beside a study file: each study has its own, changes count, and a failing import is a sentence."""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffex_dagster.classifying.python_adapter import CallableClassifier
from diffex_dagster.errors import StudyError
from diffex_dagster.utils.imports import imported_sources, load_object, make
from diffex_dagster.utils.sources import module_sources, sources_digest


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        file = folder.joinpath(*name.split("__in__")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def test_two_studies_may_have_modules_of_the_same_name_that_import_modules_of_the_same_name(tmp_path: Path) -> None:
    code = "import helper\ndef answer():\n    return helper.VALUE\n"
    code += "def late():\n    import helper as h\n    return h.VALUE\n"
    for name in ("cats", "dogs"):
        write(tmp_path / name, my_model=code, helper=f"VALUE = {name!r}\n")
    cats, dogs = (load_object("my_model:answer", tmp_path / name, "classifiers.v1") for name in ("cats", "dogs"))
    assert (cats(), dogs()) == ("cats", "dogs")
    late = [load_object("my_model:late", tmp_path / name, "classifiers.v1")() for name in ("dogs", "cats")]
    assert late == ["dogs", "cats"]
    assert "my_model" not in sys.modules and "helper" not in sys.modules


def test_packages_submodules_and_relative_imports_stay_in_the_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(
            tmp_path / name,
            nets____init__="",
            **{
                "nets__in____init__": "from .parts import SIZE\n",
                "nets__in__parts": f"SIZE = {name!r}\n",
                "loose__in__more": f"MORE = {name!r}\n",
                "my_model": "import nets.parts\nfrom nets import SIZE\nfrom loose.more import MORE\n"
                "def answer():\n    return nets.parts.SIZE + SIZE + MORE\n",
            },
        )
    answers = [load_object("my_model:answer", tmp_path / name, "x")() for name in ("a", "b", "a")]
    assert answers == ["aaa", "bbb", "aaa"]


def test_a_study_folder_does_not_hide_the_standard_library_or_a_package_with_a_folder_of_pictures(
    tmp_path: Path,
) -> None:
    write(
        tmp_path, json="raise RuntimeError('not this one')\n", my_model="import json, PIL.Image\nx = json.dumps([1])\n"
    )
    (tmp_path / "PIL").mkdir()  # a folder of that name, no package
    assert load_object("my_model:x", tmp_path, "x") == "[1]"


def test_a_changed_module_is_loaded_anew_together_with_what_imports_it(tmp_path: Path) -> None:
    write(tmp_path, my_model="import helper\ndef answer():\n    return helper.VALUE\n", helper="VALUE = 1\n")
    assert load_object("my_model:answer", tmp_path, "x")() == 1
    write(tmp_path, helper="VALUE = 2\n")
    assert load_object("my_model:answer", tmp_path, "x")() == 2


def test_the_program_that_has_imported_the_module_shares_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, shared_with_us="class Net: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("shared_with_us")
    assert load_object("shared_with_us:Net", tmp_path, "x") is module.Net


def test_a_pickle_finds_a_studys_class_unless_two_studies_have_one_of_that_name(tmp_path: Path) -> None:
    code = "import pickle\nclass Net:\n    pass\ndef read(data):\n    return pickle.loads(data)\n"
    write(tmp_path / "one", pickled_net=code)
    read = load_object("pickled_net:read", tmp_path / "one", "x")
    data = b"cpickled_net\nNet\n."  # what a training script beside the module has pickled
    assert read(data) is load_object("pickled_net:Net", tmp_path / "one", "x")
    assert pickle.loads(pickle.dumps(read(data))) is read(data)
    write(tmp_path / "two", pickled_net=code)
    load_object("pickled_net:Net", tmp_path / "two", "x")
    with pytest.raises(ModuleNotFoundError, match="give one of them another name"):
        read(data)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def f(:\n", r"broken.py, line 1: SyntaxError"),
        ("def f(x):\n return x\n   y = 1\n", r"broken.py, line 3: IndentationError"),
        ("x = 1\nopen('weights.bin')\n", r"broken.py, line 2: No such file or directory: weights.bin"),
        ("import sys\nsys.exit('usage: train.py')\n", r"line 2: SystemExit: usage: train.py"),
        ("raise RuntimeError('no GPU')\n", r"line 1: no GPU"),
        ("{}['a']\n", r"line 1: KeyError: 'a'"),
        ("assert False\n", r"line 1: AssertionError"),
        ("class Odd(BaseException): ...\nraise Odd('x')\n", r"line 2: Odd: x"),
        ("import no_such_package\n", r"line 1: ModuleNotFoundError: No module named 'no_such_package'"),
        ("from os import no_such_name\n", r"ImportError|cannot import name 'no_such_name'"),
        ("'\udcff'.encode()\n", r"line 1: SyntaxError: .*can't decode byte"),
    ],
)
def test_a_module_that_fails_while_it_is_imported_is_one_sentence(tmp_path: Path, code: str, told: str) -> None:
    (tmp_path / "broken.py").write_text(code, "utf-8", "surrogatepass")
    with pytest.raises(StudyError, match=told) as raised:
        load_object("broken:f", tmp_path, "classifiers.v1.callable")
    assert "\n" not in str(raised.value)
    assert "_diffex_study" not in str(raised.value)
    assert str(raised.value).startswith(f"{tmp_path}: classifiers.v1.callable: 'broken:f' cannot be imported")


def test_an_interrupt_while_a_module_is_imported_is_no_mistake_in_the_study(tmp_path: Path) -> None:
    write(tmp_path, slow="raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_object("slow:f", tmp_path, "x")


def test_a_missing_module_and_a_missing_attribute_are_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no module 'not_there'"):
        load_object("not_there.inner:f", tmp_path, "x")
    write(tmp_path, there="x = 1\n")
    with pytest.raises(StudyError, match="module 'there' has no attribute 'f'"):
        load_object("there:f", tmp_path, "x")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise KeyError('size')", r"model.py, line 2: KeyError: 'size'"),
        ("return int(options['batch'])", r"line 2: invalid literal for int\(\) with base 10: 'x'"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("return None", "returned NoneType, which has no 'edit'"),
        ("return 1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_factory_that_fails_or_makes_something_else_is_one_sentence(tmp_path: Path, code: str, told: str) -> None:
    write(tmp_path, model=f"def factory(folder, options):\n    {code}\n")
    with pytest.raises(StudyError, match=told) as raised:
        make("model:factory", tmp_path, "editors.e.factory", ("edit",), {"batch": "x"})
    assert str(raised.value).startswith(f"{tmp_path}: editors.e.factory: 'model:factory'")
    assert "\n" not in str(raised.value)


def test_sources_are_followed_through_imports_without_running_them(tmp_path: Path) -> None:
    write(
        tmp_path,
        my_model="raise RuntimeError('not to be run')\ndef f():\n    from nets.parts import SIZE\n",
        unrelated="x = 1\n",
        **{"nets__in____init__": "", "nets__in__parts": "from . import deep\n", "nets__in__deep": "import json\n"},
    )
    found = module_sources("my_model:f", tmp_path)
    assert set(found) == {"my_model.py", "nets/__init__.py", "nets/parts.py", "nets/deep.py"}
    before = sources_digest("my_model:f", tmp_path)
    write(tmp_path, unrelated="x = 2\n")
    assert sources_digest("my_model:f", tmp_path) == before
    write(tmp_path, nets__in__deep="import json  # a comment\n")
    assert sources_digest("my_model:f", tmp_path) == before
    write(tmp_path, nets__in__deep="import json, math\n")
    assert sources_digest("my_model:f", tmp_path) != before
    assert module_sources("json:dumps", tmp_path).keys() == {"__init__.py"}
    assert module_sources("not_there:f", tmp_path) == {} == module_sources("sys:exit", tmp_path)


def test_a_callables_fingerprint_covers_the_modules_beside_it_and_stays_as_it_was_without_any(tmp_path: Path) -> None:
    alone = "def scores(pictures):\n    return [[0.0, 1.0] for _ in pictures]\n"
    write(tmp_path, alone=alone, helper="VALUE = 1.0\n")
    write(
        tmp_path, my_model="import helper\ndef scores(pictures):\n    return [[0.0, helper.VALUE] for _ in pictures]\n"
    )

    def made(name: str) -> CallableClassifier:
        return CallableClassifier(load_object(f"{name}:scores", tmp_path, "x"), labels=("a", "b"), name=name)

    before, quiet = made("my_model").fingerprint, made("alone").fingerprint
    write(tmp_path, helper="VALUE = -5.0\n")
    after = made("my_model")
    assert after.fingerprint != before
    assert np.isclose(after([Image.new("RGB", (8, 8))])[0, 1], -5.0)
    assert made("alone").fingerprint == quiet
    assert imported_sources(tmp_path / "alone.py") == {}
