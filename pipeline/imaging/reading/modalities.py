"""Kinds of modality, and the codes of DICOM for each."""

OF_DICOM = {  # PS3.3, C.7.3.1.1.1
    "CT": "ct", "PT": "mr", "MR": "mr", "NM": "mr", "CR": "xray", "DX": "xray", "MG": "xray", "RF": "xray",
    "XA": "xray", "RG": "xray", "IO": "xray", "PX": "xray", "US": "us", "IVUS": "us", "ES": "rgb", "GM": "rgb",
    "SM": "rgb", "OP": "rgb", "XC": "rgb",
}  # fmt: skip
NAMES = {"ct": "CT", "mr": "MR", "xray": "X-ray", "us": "ultrasound", "rgb": "colour"}
