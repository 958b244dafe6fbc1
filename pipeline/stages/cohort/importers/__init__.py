"""Importers: one file per source format, all write one cohort table."""
