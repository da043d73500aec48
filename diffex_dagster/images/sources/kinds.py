"""The kinds of sources of sample images that a study file can name: each import below is one.

A new kind is one file, with what the study file says of it and how its images are found (an `ImageSource`), and one
line here. The modules are read with every study file: they open no image and load no DuckDB.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING

from diffex_dagster.images.sources.dataset import DatasetSource as DatasetSource
from diffex_dagster.images.sources.files import FilesSource as FilesSource
from diffex_dagster.images.sources.folder import FolderSource as FolderSource
from diffex_dagster.images.sources.glob import GlobSource as GlobSource
from diffex_dagster.images.sources.parts import ImageSource
from diffex_dagster.images.sources.table import TableSource as TableSource
from diffex_dagster.utils.config import kinds_in

KINDS = kinds_in(globals(), ImageSource)

if TYPE_CHECKING:

    class AnyImageSource(FolderSource):
        pass
else:
    AnyImageSource = types.new_class("AnyImageSource", KINDS, exec_body=lambda names: names.update(__module__=__name__))
"""The fields of all kinds, side by side: the base of a study file's section `images`."""
