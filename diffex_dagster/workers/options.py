"""How many workers a study has, and where; part of no version, since any number of them makes the same edits."""

from __future__ import annotations

from pydantic import Field

from diffex_dagster.utils.config import Part


class Workers(Part):
    """Processes that edit and judge, each with a model of its own."""

    count: int = Field(ge=1, le=4096, description="how many; with fewer places, those that there are begin")
    address: str | None = Field(None, description="of a Ray cluster, or auto; left out: RAY_ADDRESS, else this machine")
    gpus: float | None = Field(None, ge=0, le=16, description="for each; left out: 1 where the editor's device is cuda")
    ahead: int = Field(
        2, ge=1, le=64, description="batches that a worker has at a time: one at work, the others waiting"
    )
    tries: int = Field(2, ge=1, le=10, description="processes that a batch may end before it is cut in two")
    patience: float = Field(600.0, gt=0, description="seconds to wait while no worker is there")
