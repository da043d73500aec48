"""Apply what a study found to other pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffex_dagster.errors import StudyError
from diffex_dagster.utils.files import write_output
from diffex_dagster.utils.progress import shown, silent
from diffex_dagster.utils.secrets import none_raised

if TYPE_CHECKING:
    import pandas as pd

    from diffex_dagster.report.applied_model import Applied
    from diffex_dagster.study import Study


@dataclass(frozen=True)
class Application:
    """Which other pictures carry what a classifier leans on, and which depend on it.

    Attributes:
        found: everything as plain data (`report.applied_model.Applied`).
    """

    found: Applied

    def __repr__(self) -> str:
        """How many pictures carry what, and those most at risk."""
        from diffex_dagster.report.applied_page import in_lines

        return in_lines(self.found)

    def _repr_html_(self) -> str:
        """A table of the attributes and the pictures most at risk, for a notebook."""
        from diffex_dagster.report.applied_page import as_html

        return as_html(self.found)

    def at_risk(self, shortcut: str | None = None) -> pd.DataFrame:
        """The pictures that show an attribute, the most at risk first (columns as of `to_frame`).

        Args:
            shortcut: the attribute, by id or name; the first one when None.

        Raises:
            StudyError: it was not looked for.
        """
        names = [f.feature for f in self.found.features if shortcut in (None, f.feature, f.name)]
        if not names:
            known = ", ".join(f.feature for f in self.found.features)
            raise StudyError(f"shortcut: {shortcut!r} was not looked for in these pictures; {known} were")
        frame = self.to_frame()
        return frame[(frame["feature"] == names[0]) & frame["place"].notna()].reset_index(drop=True)

    def to_frame(self) -> pd.DataFrame:
        """One row an attribute and picture: whether it is there, the score, what would be left of it, ..."""
        import pandas as pd

        from diffex_dagster.report.applied_model import AppliedRow, applied_rows
        from diffex_dagster.utils.columns import columns

        return pd.DataFrame(applied_rows(self.found), columns=list(columns(AppliedRow)))

    def to_json(self, file: Path | None = None) -> str:
        """Everything but the pictures as JSON.

        Args:
            file: also written there.

        Raises:
            DiffExError: it cannot be written.
        """
        from diffex_dagster.report.applied_model import applied_data

        text = json.dumps(applied_data(self.found), indent=2, ensure_ascii=False)
        if file is not None:
            write_output(file, f"{text}\n".encode())
        return text

    def to_html(self, folder: Path) -> Path:
        """Write the page of contact sheets and its tables.

        Args:
            folder: made where it is not there.

        Returns:
            The page.

        Raises:
            DiffExError: it cannot be written.
        """
        from diffex_dagster.report.applied_files import write_applied

        return write_applied(self.found, folder)[0]


def apply_to(
    images: str | Path,
    classifier: str,
    study: Study,
    shortcut: str | Sequence[str] = (),
    *,
    top: int = 10,
    null_edits: bool = False,
    progress: bool = True,
) -> Application:
    """Apply what a study found to other pictures: which carry the attributes that a classifier leans on.

    The same as `diffex apply`. Nothing is edited unless null edits are asked for. What *at risk* means is in
    `effects.at_risk`. Pictures, scores and the judge's answers are kept with the study's results; the study's samples,
    versions and reports stay as they are.

    Args:
        images: a folder of pictures, and the folders in it. Files that cannot be read are named in `found.unread`.
        classifier: the name of one of the study's classifiers, of which there is a report.
        study: a study (`load_study`) that has been run.
        shortcut: attributes of the report by name or id, looked for whatever was found of them.
        top: of the attributes that the report claims to raise or lower the score, at most so many.
        null_edits: judge and score null edits, as the study does, not the pictures as they are.
        progress: as of `explain`.

    Raises:
        DiffExError: there is no such folder, report or attribute, or nobody can judge; the message says what to do.
    """
    from diffex_dagster.stages.applying import apply_study
    from diffex_dagster.stages.asked_of_pictures import Wanted, asked_of_pictures
    from diffex_dagster.stages.context import at_work
    from diffex_dagster.stages.folder_pictures import keep_pictures, read_folder
    from diffex_dagster.stages.scores import check_classifier

    if classifier not in study.classifiers:
        raise StudyError(
            f"{study.file}: classifiers: there is no {classifier!r}; the study has {', '.join(study.classifiers)}"
        )
    wanted = Wanted((shortcut,) if isinstance(shortcut, str) else tuple(shortcut), top, null_edits)
    with none_raised(), shown() if progress else nullcontext(silent) as reporter:
        subject = at_work(study, report=reporter).subject(classifier)
        folder = read_folder(study, Path(images))
        asked = asked_of_pictures(subject, folder, wanted)
        check_classifier(subject)
        keep_pictures(subject, folder)
        return Application(apply_study(asked, "diffex_dagster.apply_to(...)"))
