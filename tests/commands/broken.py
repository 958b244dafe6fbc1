"""Contents of broken files, and what a command must say of them."""

import warnings

import numpy as np

from pipeline.__main__ import main

CONTENTS = {
    "nothing": b"",
    "zeros": bytes(200),
    "bytes": np.random.default_rng(0).bytes(400),
    "half a mark": b"\xff\xfe\x00",
    "latin-1": "image,label,scan,case_id\nK\xf6ln.png,a,b,c\n".encode("latin-1"),
    "archive": b"PK\x03\x04" + bytes(60),
    "compressed": b"\x1f\x8b" + bytes(60),
    "null": b"null",
    "numbers": b"[1, NaN, Infinity]",
    "lists": b'{"training": [null, 3, {"image": null}, {"image": ["a"]}, {"image": "a.png", "label": {"x": NaN}}]}',
    "labels": b'{"labels": {"\xc2\xb2": "x", "0": null}, "training": [{"image": "a.png", "label": "\xc2\xb2"}]}',
    "deep": b"[" * 200_000,
    "header": b"image,label,scan,case_id\n",
    "quotes": b'image,label,scan,case_id\n"a.png,x,y,z\n',
    "no image": b"image,label,scan,case_id\n,,,\n,a,b,c\n.,a,s,d\n/,a,t,e\n",
    "dicom": bytes(128) + b"DICM" + bytes(40),
    "numpy": b"\x93NUMPY\x01\x00" + bytes(60),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(60),
    "nifti": b"\x5c\x01\0\0" + bytes(344),
    "text": b"NRRD0004\n\nObjectType = Image\n",
}


def fails_with_a_reason(words, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main([str(word) for word in words]) in (1, 3)
    printed = capsys.readouterr()
    assert "error: " in printed.err and "Traceback" not in printed.err + printed.out
