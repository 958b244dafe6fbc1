"""Importers: from the ways in which images lie around to the one cohort table, a file for each way."""
