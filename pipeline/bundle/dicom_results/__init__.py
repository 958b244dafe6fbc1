"""Write the results of a scan as DICOM objects that refer to the series they were computed from."""
