"""Tables of scans: cohorts, lists of new scans, and pseudonyms."""
