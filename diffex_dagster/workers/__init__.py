"""Several processes that edit and judge for one study: behind the editor's and the judge's protocols, on Ray.

Nothing here is loaded for a study without workers, and Ray is imported at the first edit that has to be made.
"""
