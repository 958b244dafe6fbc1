"""evidence: measure whether transfer and adaptation paid."""
