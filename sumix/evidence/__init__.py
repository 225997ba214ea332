"""Where a mix's labels come from: maps of each image's object, and the rules that turn what is visible into weights."""

from sumix.evidence.evidence import Evidence, as_evidence
from sumix.reference import RULES

__all__ = ["RULES", "Evidence", "as_evidence"]
