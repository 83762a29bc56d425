"""The index's errors → what a caller is told."""

from handler.errors import ApiError, BadRequest, Conflicting, Internal, NotFound, Unavailable
from index.errors import (
    BadUpload,
    Conflict,
    Damaged,
    EmbedderMismatch,
    ModelFilesMissing,
    NearvoteIndexError,
    StoreUnavailable,
    UnknownExample,
    UnknownVersion,
)


def to_api(error: NearvoteIndexError) -> ApiError:
    text = str(error)
    match error:
        case BadUpload():
            faults = [fault.as_json() for fault in error.faults]
            return BadRequest(text, code="bad_upload", details={"faults": faults})
        case UnknownExample():
            return NotFound(text, code="example_not_found", details={"ids": error.ids})
        case UnknownVersion():
            return NotFound(text, code="version_not_found")
        case EmbedderMismatch():
            return Conflicting(text, code="embedder_mismatch")
        case ModelFilesMissing():
            return Unavailable(text, code="model_files_missing")
        case StoreUnavailable() | Conflict():
            return Unavailable(text, code="store_unavailable")
        case Damaged():
            return Internal(text, code="index_damaged")
        case _:
            return Internal(text)
