"""A study as a Dagster Component: `dg scaffold defs diffex_dagster.StudyComponent faces` in any Dagster project."""

from __future__ import annotations

import warnings
from pathlib import Path

import dagster as dg

from diffex_dagster.assets.editors import build_under_editors
from diffex_dagster.study import load_study

# Where Dagster puts a component's definitions together it calls functions of its own that it calls beta, and says so:
# nothing that a program which loads a study can change. What other code calls is said as ever.
for _kind in (dg.BetaWarning, dg.PreviewWarning, dg.SupersessionWarning):
    warnings.filterwarnings("ignore", category=_kind, module=r"dagster\.")

_STARTING_POINT = """\
# A study of an image classifier; see docs/howto/dagster.md. Paths are relative to this file.
name: {name}
domain: photographs of human faces # what your images show
images: {{folder: images, size: 512}} # put them into a folder beside this file
corpus: {{starter: face}}
editors:
  sd15: {{kind: ledits, checkpoint: stable-diffusion-v1-5/stable-diffusion-v1-5}}
classifiers:
  v1: {{kind: transformers, checkpoint: nateraw/vit-age-classifier}}
target: {{label: 60-69}}
"""


class StudyScaffolder(dg.Scaffolder):
    """Writes defs.yaml and a study file to fill in."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        """Both files go into the component's folder; a study file that is there stays."""
        dg.scaffold_component(request, {"study": "study.yaml"})
        folder = Path(request.target_path)
        (folder / "images").mkdir(exist_ok=True)
        if not (folder / "study.yaml").exists():
            name = "".join(c if c.isalnum() else "_" for c in folder.name)
            (folder / "study.yaml").write_text(_STARTING_POINT.format(name=name), "utf-8")


@dg.scaffold_with(StudyScaffolder)
class StudyComponent(dg.Component, dg.Model, dg.Resolvable):
    """The assets, checks, job and sensor of one study.

    Attributes:
        study: its file, relative to defs.yaml.
        classifiers: build only these of the study's; all when left out.
        resources: false where the project has `diffex_editor` and the others of its own.
        one_process: false where the project has an executor of its own.
    """

    study: str = "study.yaml"
    classifiers: list[str] | None = None
    resources: bool = True
    one_process: bool = True

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The study's definitions; its file is looked for beside defs.yaml.

        A run is one process, so that a model is loaded once, as it is in a code location of studies only.

        Args:
            context: Dagster's, of the folder with defs.yaml.

        Raises:
            StudyError: the study file is missing or wrong.
        """
        study = load_study(Path(context.path) / self.study)
        definitions = build_under_editors(study, self.classifiers, resources=None if self.resources else {})
        if not self.one_process:
            return definitions
        return dg.Definitions.merge(definitions, dg.Definitions(executor=dg.in_process_executor))
