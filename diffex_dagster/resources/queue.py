"""One run of a study at a time on a team's Dagster instance: runs say which study they are of, and the queue counts.

Runs of a study's job, of its automation and of the command line carry the tag `diffex/study` by themselves. What
somebody starts from the asset graph belongs to no job, and Dagster gives such a run no tags: `StudyQueue` does, where
`dagster.yaml` names it, when the run is put into the queue. Every asset of a study says in its metadata whose it is.
"""

from __future__ import annotations

import dagster as dg

from diffex_dagster.study import Study
from diffex_dagster.utils.secrets import logger

STUDY_TAG = "diffex/study"

log = logger(__name__)


def run_tags(study: Study, space: str | None = None) -> dict[str, str]:
    """The tags of a run of this study, and metadata of its assets: what its own rows are kept under, `space/name`, or
    `name` alone.

    Args:
        space: where a resource says another one than the study and the environment. That of an environment variable
            is read now: definitions keep what it was when they were loaded.
    """
    if isinstance(space, dg.EnvVar):
        space = space.get_value()
    return {STUDY_TAG: (study.deployed(results={"space": space}) if space else study).kept_as}


class StudyQueue(dg.QueuedRunCoordinator):
    """Dagster's own queue; a run without the tag gets that of the study whose assets it makes, observes or checks.

    One of several studies, or of none, gets none, and waits for nobody.
    """

    def submit_run(self, context: dg.SubmitRunContext) -> dg.DagsterRun:
        """Tag a run and put it into the queue; one whose study cannot be found out is put there as it is."""
        run = context.dagster_run
        if STUDY_TAG not in run.tags:
            try:
                studies = studies_of(context)
            except Exception as error:  # a code location that is away: the run is worth more than its tag
                log.warning("run %s: its study is not known (%s)", run.run_id, error)
                studies = set()
            if len(studies) == 1:
                self._instance.add_run_tags(run.run_id, {STUDY_TAG: studies.pop()})
        return super().submit_run(context)


def studies_of(context: dg.SubmitRunContext) -> set[str]:
    """What the assets of a run, and those of its checks, say that they belong to.

    Those of a code location whose package is older than this say nothing: of them the jobs that make them say it.
    """
    run = context.dagster_run
    if run.remote_job_origin is None:
        return set()
    origin = run.remote_job_origin.repository_origin
    location = context.workspace.get_code_location(origin.code_location_origin.location_name)
    repository = location.get_repository(origin.repository_name)
    keys = {*(run.asset_selection or ()), *(check.asset_key for check in run.asset_check_selection or ())}
    chosen = [repository.get_asset_node_snap(key) for key in keys]
    nodes = chosen or repository.get_asset_node_snaps(run.job_name)  # a run that chooses none makes all of its job
    found = set[str]()
    for node in filter(None, nodes):
        if STUDY_TAG in node.metadata:
            found.add(str(node.metadata[STUDY_TAG].value))
        else:
            jobs = (repository.get_full_job(name) for name in node.job_names)
            found |= {job.tags[STUDY_TAG] for job in jobs if STUDY_TAG in job.tags}
    return found
