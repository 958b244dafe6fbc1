"""The answer of a model as a DICOM Structured Report (PS3.16, TID 1500, Measurement Report), by highdicom."""

from collections.abc import Mapping
from typing import Any

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.sr.codedict import codes

from pipeline.bundle.dicom_results.model import MAKER, RESEARCH, Model, shortened, uid_of
from pipeline.bundle.dicom_results.source import Source
from pipeline.bundle.predictor import Prediction

SCHEME = "99MEDADAPT"  # our own codes: no standard one says "probability of <class>"
PROCEDURE = CodedConcept("363679005", "SCT", "Imaging procedure")
SERIES_NUMBER = 9901
TEXTS = {
    "set": "Prediction set",
    "decision": "Decision at the operating point",
    "rule": "Operating point",
    "reason": "Reason for giving no answer",
    "nearest": "Nearest development site",
    "status": "Status of the model",
    "use": "Intended use",
}


def report_of(source: Source, found: Prediction, model: Model, identity: tuple[str, ...]) -> Any:
    """Write the report of an answer, or of an abstention with its reason and without any number of it.

    Parameters
    ----------
    source : Source
    found : Prediction
    model : Model
    identity : tuple of str
        See `model.identity_of`.

    Returns
    -------
    highdicom.sr.ComprehensiveSR
    """
    group = _group(source, found, model, identity)
    title = shortened(model.title)
    device = DeviceObserverIdentifyingAttributes(
        uid=uid_of("device", model.sha256), name=title, manufacturer_name=MAKER, model_name=title
    )
    content = MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(codes.DCM.Device, device),
        ),
        procedure_reported=PROCEDURE,
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
    )
    report = ComprehensiveSR(
        evidence=source.images,
        content=content[0],
        series_instance_uid=uid_of("report series", *identity),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uid_of("report", *identity),
        instance_number=1,
        is_complete=True,
        is_final=False,
        is_verified=False,
        **model.equipment,
    )
    report.SeriesDescription = shortened(f"Research use only: {model.title}")
    return report


def _group(source: Source, found: Prediction, model: Model, identity: tuple[str, ...]) -> Any:
    answered = found.probabilities is not None
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=uid_of("answer", *identity), identifier=model.title),
        algorithm_id=AlgorithmIdentification(
            name=model.name,
            version=model.version,
            manufacturer=MAKER,
            parameters=[f"sha256 of the bundle: {model.sha256}", RESEARCH],
        ),
        measurements=[
            Measurement(_own(f"Probability of {name}"), value, codes.UCUM.NoUnits)
            for name, value in (found.probabilities or {}).items()
        ],
        qualitative_evaluations=[
            QualitativeEvaluation(_own("Answer of the model"), _own("answered" if answered else "no answer"))
        ],
        source_images=[
            SourceImageForMeasurementGroup(str(one.SOPClassUID), str(one.SOPInstanceUID)) for one in source.images
        ],
    )
    for name, text in texts_of(found, model).items():
        group[0].ContentSequence.append(TextContentItem(_own(name), text, RelationshipTypeValues.CONTAINS))
    return group


def texts_of(found: Prediction, model: Model) -> Mapping[str, str]:
    """Say in words what is no number: set, decision, reason, nearest site, and what the model may be used for."""
    share = (
        "" if found.site_share is None else f"; {found.site_share:.0%} of development patients are as far from theirs"
    )
    texts = {
        "set": found.set,
        "decision": found.decision,
        "rule": model.rule if found.decision else "",
        "reason": f"{'; '.join(found.abstains)}: {found.reason}" if found.abstains else "",
        "nearest": found.nearest_site and found.nearest_site + share,
        "status": model.status,
        "use": RESEARCH,
    }
    return {TEXTS[name]: text for name, text in texts.items() if text}


def _own(meaning: str) -> CodedConcept:
    """Make a code of our own; the same meaning has the same code in every report."""
    code = uid_of(meaning).removeprefix("2.25.")[:12]
    return CodedConcept(code, SCHEME, shortened(meaning))
