"""The cases of a run as they are judged, shared by the stages that judge."""
