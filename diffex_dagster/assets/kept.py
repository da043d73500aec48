"""What Dagster keeps of a study, and shows: made here only, so that no text of it holds a secret of this process.

Assets, checks and sensors call these in place of Dagster's own classes: names come from a model or a file, and what
cannot be read says why in somebody else's words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from diffex_dagster.utils.secrets import redact, redacted


def materialized(
    version: str,
    metadata: Mapping[str, Any],
    tags: Mapping[str, str],
    check_results: Sequence[dg.AssetCheckResult] = (),
) -> dg.MaterializeResult:
    """A stage that has been made: its data version, what is told of it, and what was checked on the way."""
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version), metadata=plain(metadata), tags=tags, check_results=check_results
    )


def checked(
    passed: bool,
    description: str,
    metadata: Mapping[str, Any],
    *,
    of: tuple[str, dg.AssetKey] | None = None,
    blocks: bool = True,
) -> dg.AssetCheckResult:
    """What a check found.

    Args:
        of: name and asset of a check that its stage makes itself; a check that is a function has both.
        blocks: whether it is an error, and no warning, when it fails.
    """
    name, key = of or (None, None)
    severity = dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(
        passed=passed,
        check_name=name,
        asset_key=key,
        severity=severity,
        description=redact(description),
        metadata=plain(metadata),
    )


def seen(
    key: dg.AssetKey, metadata: Mapping[str, Any], description: str | None = None, tags: Mapping[str, str] | None = None
) -> dg.AssetObservation:
    """Something that is told of an asset without making it."""
    said = redact(description) if description else None
    return dg.AssetObservation(key, description=said, metadata=plain(metadata), tags=tags)


def observed(version: str, metadata: Mapping[str, Any]) -> dg.ObserveResult:
    """A source as it is now."""
    return dg.ObserveResult(data_version=dg.DataVersion(version), metadata=plain(metadata))


def skipped(why: str) -> dg.SkipReason:
    """Why a sensor has nothing to say."""
    return dg.SkipReason(redact(why))


def noticed(observations: Sequence[dg.AssetObservation], cursor: dict[str, str]) -> dg.SensorResult:
    """What a sensor found to have changed; it remembers hashes, by names of assets."""
    return dg.SensorResult(asset_events=list(observations), cursor=json.dumps(cursor))


def failed(sentence: str) -> dg.Failure:
    """The error of a step that is not tried again."""
    return dg.Failure(description=redact(sentence), allow_retries=False)


def warn(context: dg.OpExecutionContext | dg.AssetExecutionContext | dg.SensorEvaluationContext, text: str) -> None:
    """A warning in the log of a run, or of a sensor."""
    context.log.warning(redact(text))


def plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata without secrets: in its texts, in its tables and lists, and in its names, but for Dagster's own."""
    return {
        name if name.startswith("dagster/") else redact(name): _plain(redacted(value))
        for name, value in metadata.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dg.TableMetadataValue):
        records = [dg.TableRecord(redacted(dict(record.data))) for record in value.records]
        return dg.MetadataValue.table(records=records, schema=value.schema)
    if isinstance(value, dg.MarkdownMetadataValue):
        return dg.MetadataValue.md(redact(value.md_str or ""))
    if isinstance(value, dg.TextMetadataValue):
        return dg.MetadataValue.text(redact(value.text or ""))
    if isinstance(value, dg.UrlMetadataValue):
        return dg.MetadataValue.url(redact(value.url or ""))
    if isinstance(value, dg.PathMetadataValue):
        return dg.MetadataValue.path(redact(value.path or ""))
    if isinstance(value, dg.JsonMetadataValue):
        return dg.MetadataValue.json(redacted(value.data))
    return value
