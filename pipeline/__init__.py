"""medadapt: domain adaptation for medical imaging, from raw scans to a released, calibrated model."""

__version__ = "0.1.0"
