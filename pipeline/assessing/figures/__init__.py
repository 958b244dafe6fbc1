"""The figures by which forecasts are judged, one idea a file."""
