"""Import cohorts: one module per source format; all write the same cohort table."""
