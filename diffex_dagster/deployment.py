"""Where a study runs and where its results are kept: one study file for a laptop, a server and a team's deployment.

None of it is part of the question that a study asks, so none of it enters a version. What changes pixels or scores (the
kind of device, the precision) is in the fingerprints of the editor and of the classifiers, as ever.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from diffex_dagster.editing.loading import DTypeName
from diffex_dagster.errors import StudyError
from diffex_dagster.utils.config import Part
from diffex_dagster.utils.mistakes import first_fault
from diffex_dagster.utils.secrets import remember_address

BUCKET = re.compile(r"(s3|gs|az)://[^/@\s]+(/[^\s@]*)?")
"""Addresses of buckets; keys and passwords are no part of them."""


class EditorPlace(Part):
    """Where the diffusion editor works; what is left out is as the study says."""

    device: str | None = Field(None, description="auto, cpu, cuda, cuda:1, mps")
    dtype: DTypeName | None = None
    batch_size: int | None = Field(None, ge=1, description="edits at a time")
    workers: int | None = Field(None, ge=0, le=4096, description="processes that edit and judge; 0: this one alone")


class SharedResults(Part):
    """Where rows and pictures are kept that several people or machines share; a study file and a deployment say it."""

    pictures: str | None = Field(
        None, description="another folder, or a bucket, for the pictures: s3://bucket/folder, gs://, az://"
    )
    database: str | None = Field(None, description="PostgreSQL for the rows of all studies; else a DuckDB file")
    space: str | None = Field(None, description="whose sample images, corpus and reports; edits and scores are shared")

    @field_validator("pictures", mode="before")
    @classmethod
    def _a_place(cls, value: Any) -> Any:
        """A folder, or the address of a bucket; keys are in no address."""
        value = str(value) if isinstance(value, Path) else value
        if isinstance(value, str) and "://" in value and not BUCKET.fullmatch(value):
            remember_address(value)
            raise ValueError(
                "write a folder, or s3://bucket/folder, gs://bucket/folder or az://container/folder; keys come from "
                "the environment"
            )
        return value

    @field_validator("database")
    @classmethod
    def _an_address(cls, value: str | None) -> str | None:
        if value is not None:
            remember_address(value)
            if not re.match(r"postgres(ql)?://\S+/\w+", value):
                raise ValueError("write postgresql://user@host/database, the password in PGPASSWORD or ~/.pgpass")
        return value

    @property
    def owner(self) -> str | None:
        """The space; in a shared database the user's name when left out, in a folder nobody's.

        Raises:
            StudyError: a database is shared and nobody knows whose process this is.
        """
        if self.space is not None or self.database is None:
            return self.space
        try:
            return re.sub(r"[^\w.-]", "_", getpass.getuser())[:64]
        except (KeyError, OSError) as error:  # a container whose user has no name
            raise StudyError("DIFFEX_SPACE: say whose study this is: this user has no name here") from error

    @field_validator("space")
    @classmethod
    def _a_name(cls, value: str | None) -> str | None:
        """It is part of what rows are kept under, and a folder of reports."""
        if value is not None and not re.fullmatch(r"\w[\w.-]{0,63}", value):
            raise ValueError("write a short name: letters, digits, '_', '-' and '.'")
        return value


class ResultsPlace(SharedResults):
    """Where results are kept: a folder in which every study has one of its own, by the study's name."""

    folder: Path | None = Field(None, description="for the databases, the reports, and the pictures")
    url: str | None = Field(None, pattern=r"^https?://", description="address at which `folder` is served")

    @field_validator("folder")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else Path(absolute(str(value)))

    @field_validator("pictures")
    @classmethod
    def _absolute_too(cls, value: str | None) -> str | None:
        return value if value is None or BUCKET.fullmatch(value) else absolute(value)


def absolute(path: str) -> str:
    """Processes of one deployment have different working directories: a relative path would be several folders."""
    found = Path(path).expanduser()
    if not found.is_absolute():
        raise ValueError("write an absolute path")
    return str(found)


class VLMPlace(Part):
    """Which server answers for the vision-language model that the study names."""

    base_url: str | None = Field(None, pattern=r"^https?://")
    key_env: str | None = Field(None, description="environment variable with the key for that server")


class ClassifierPlace(Part):
    """Where the classifiers work, and at which addresses the services among them are served."""

    device: str | None = Field(None, description="auto, cpu, cuda, cuda:1, mps")
    urls: dict[str, str] = Field(default_factory=dict, description="address of a service, by the classifier's name")


VARIABLES = {
    "DIFFEX_DEVICE": ("editor", "device"),
    "DIFFEX_DTYPE": ("editor", "dtype"),
    "DIFFEX_BATCH_SIZE": ("editor", "batch_size"),
    "DIFFEX_WORKERS": ("editor", "workers"),
    "DIFFEX_RESULTS": ("results", "folder"),
    "DIFFEX_PICTURES": ("results", "pictures"),
    "DIFFEX_RESULTS_URL": ("results", "url"),
    "DIFFEX_DATABASE": ("results", "database"),
    "DIFFEX_SPACE": ("results", "space"),
    "DIFFEX_VLM_URL": ("vlm", "base_url"),
    "DIFFEX_VLM_KEY_ENV": ("vlm", "key_env"),
    "DIFFEX_CLASSIFIER_DEVICE": ("classifiers", "device"),
}
"""Environment variables that say the same, each with the field that it sets."""


class Deployment(Part):
    """All places together."""

    editor: EditorPlace = EditorPlace()
    results: ResultsPlace = ResultsPlace()
    vlm: VLMPlace = VLMPlace()
    classifiers: ClassifierPlace = ClassifierPlace()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Deployment:
        """What the DIFFEX_… variables say; one that is empty says nothing.

        Raises:
            StudyError: a variable has a value that cannot be; the sentence names it.
        """
        given = os.environ if environment is None else environment
        deployment = cls()
        for variable, (place, field) in VARIABLES.items():
            if value := given.get(variable):
                deployment = deployment.over({place: {field: value}}, {f"{place}.{field}": variable})
        return deployment

    def over(self, places: Mapping[str, Mapping[str, Any]], names: Mapping[str, str] | None = None) -> Deployment:
        """The same with these fields set; None (and an empty mapping) leaves a field as it is.

        Args:
            places: fields by place, e.g. `{"editor": {"device": "cuda"}}`.
            names: what a field is called in messages, by "place.field".

        Raises:
            StudyError: a value cannot be.
        """
        now = self.model_dump()
        for place, fields in places.items():
            now[place] |= {field: value for field, value in fields.items() if value not in (None, {})}
        try:
            return Deployment.model_validate(now)
        except ValidationError as error:
            fault = first_fault(error)
            raise StudyError(f"{(names or {}).get(fault.field, fault.field)}: {fault.what}") from error
