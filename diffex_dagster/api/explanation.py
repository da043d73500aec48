"""What `explain(...)` and `explain_image(...)` return: numbers, figures and pages of one explanation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from diffex_dagster.errors import DiffExError, StudyError, in_words
from diffex_dagster.utils.files import write_output

if TYPE_CHECKING:
    import pandas as pd

    from diffex_dagster.report.image_model import ImageFinding
    from diffex_dagster.results import Report


@dataclass(frozen=True)
class Explanation:
    """Which attributes a classifier relies on.

    Attributes:
        report: everything as plain data (`results.Report`): features by rank, groups, joint combination.
        folder: where the edits and scores are; None where it is a temporary one, which is there as long as `report` is.
    """

    report: Report
    folder: Path | None = None

    @classmethod
    def read(cls, folder: Path) -> Explanation:
        """A report that was written earlier, by this version or one before: its numbers, without pictures.

        Args:
            folder: with its `report.json`. What an earlier version did not say is in the last of the caveats.

        Raises:
            DiffExError: there is no such file, or it is no report; says which field is wrong.
        """
        from diffex_dagster.report.schema import report_from_json

        file = folder / "report.json"
        try:
            return cls(report_from_json(json.loads(file.read_text("utf-8"))))
        except OSError as error:
            raise DiffExError(f"{file} cannot be read ({in_words(error)}); name the folder of a report") from error
        except json.JSONDecodeError as error:
            raise DiffExError(f"{file} is not JSON ({error}); make the report again") from error
        except ValueError as error:
            raise DiffExError(
                f"{file}: {error}; make the report again, or read it with the version that made it"
            ) from error

    def __repr__(self) -> str:
        """Ten lines: what was explained, and the strongest features."""
        from diffex_dagster.report.notebook import in_lines

        return in_lines(self.report)

    def _repr_html_(self) -> str:
        """A table with pictures, for a notebook."""
        from diffex_dagster.report.notebook import as_html

        return as_html(self.report)

    @property
    def meta(self) -> dict[str, Any]:
        """What the numbers belong to: classifier, target, editor, corpus version, images, noise floor, caveats.

        `controls` has one dictionary for each control prompt: what its edits did (`results.Control`).
        """
        from diffex_dagster.utils.columns import as_row

        fields = (
            "study", "domain", "classifier", "classifier_fingerprint", "labels", "target", "unit", "bounded",
            "baseline", "editor_fingerprint", "corpus_version", "images", "noise_floor", "margin", "gate", "caveats",
            "warnings", "hints",
        )  # fmt: skip
        told = {field: getattr(self.report, field) for field in fields}
        return told | {"controls": [as_row(control) for control in self.report.controls]}

    def to_frame(self) -> pd.DataFrame:
        """One row a feature, by rank: effect, interval, decision, flip rate, ...

        Effects and their intervals are in the unit of the target (`meta["unit"]`), shares in [0, 1].
        """
        import pandas as pd

        from diffex_dagster.report.rows import flat_rows

        return pd.DataFrame(flat_rows(self.report.features))

    def to_json(self, file: Path | None = None) -> str:
        """`meta` and the features as JSON.

        Args:
            file: also written there.

        Raises:
            DiffExError: it cannot be written.
        """
        from diffex_dagster.report.rows import rows

        text = json.dumps({"meta": self.meta, "features": rows(self.report.features)}, indent=2, ensure_ascii=False)
        if file is not None:
            write_output(file, f"{text}\n".encode())
        return text

    def plot(self, file: Path | None = None, limit: int = 25) -> Image.Image:
        """The ranked features as bars with their 95% intervals, in the unit of the target; below them control prompts.

        Args:
            file: also written there, as its ending says: .png or .svg.
            limit: features, at most.

        Raises:
            StudyError: the file ends in neither.
            DiffExError: it cannot be written.
        """
        import io

        from diffex_dagster.report.figures import ranked_bars

        e = self.report
        drawn = ranked_bars(e.features, e.target, e.noise_floor, limit, e.controls)
        if file is not None:
            if file.suffix.lstrip(".") not in drawn:
                raise StudyError(f"{file}: figures end in .png or .svg; choose one of them")
            write_output(file, drawn[file.suffix.lstrip(".")])
        return Image.open(io.BytesIO(drawn["png"]))

    def to_html(self, folder: Path) -> Path:
        """Write the report page and its data files.

        Args:
            folder: made where it is not there.

        Returns:
            The page, `index.html`.

        Raises:
            DiffExError: it cannot be written.
        """
        from diffex_dagster.report.files import write_report

        write_report(self.report, folder)
        return folder / "index.html"


@dataclass(frozen=True)
class ImageExplanation:
    """What moves one picture's score, what flips the decision about it, and what is noise.

    Attributes:
        finding: everything as plain data (`report.image_model.ImageFinding`): features by rank, the smallest sets of
            edits that flip the decision, control edits.
        folder: where the edits and scores are; None where they were kept only while the function ran.
    """

    finding: ImageFinding
    folder: Path | None = None

    def __repr__(self) -> str:
        """What flips it, and the features that move it most."""
        from diffex_dagster.report.image_page import in_lines

        return in_lines(self.finding)

    def _repr_html_(self) -> str:
        """A table with pictures, for a notebook."""
        from diffex_dagster.report.image_page import as_html

        return as_html(self.finding)

    @property
    def flips(self) -> tuple[tuple[str, ...], ...]:
        """The smallest sets of features that flip the decision, by id, the closest picture first; empty for none."""
        return tuple(each.features for each in self.finding.flips)

    def to_frame(self) -> pd.DataFrame:
        """One row a feature, by rank: effect on this picture, its interval, verdict, effect over the study."""
        import pandas as pd

        from diffex_dagster.report.image_model import COLUMNS, feature_rows

        return pd.DataFrame(feature_rows(self.finding.features), columns=list(COLUMNS))

    def to_json(self, file: Path | None = None) -> str:
        """Everything but the pictures as JSON.

        Args:
            file: also written there.

        Raises:
            DiffExError: it cannot be written.
        """
        from diffex_dagster.report.image_model import finding_data
        from diffex_dagster.utils.columns import finite

        text = json.dumps(finite(finding_data(self.finding)), indent=2, ensure_ascii=False)
        if file is not None:
            write_output(file, f"{text}\n".encode())
        return text

    def to_html(self, file: Path) -> Path:
        """Write the page about this picture.

        Args:
            file: of the page, which is self-contained; its folder is made where it is not there.

        Returns:
            The file.

        Raises:
            DiffExError: it cannot be written.
        """
        from diffex_dagster.report.image_page import render_image

        write_output(file, render_image(self.finding).encode("utf-8"))
        return file
