"""Where a mix's labels come from: maps of each image's object, and the rules that turn what is visible into weights."""

from sumix.evidence.evidence import Evidence, as_evidence
from sumix.evidence.network import NetworkEvidence
from sumix.evidence.stored import EvidenceDataset
from sumix.reference import RULES

__all__ = ["RULES", "Evidence", "EvidenceDataset", "NetworkEvidence", "as_evidence"]
