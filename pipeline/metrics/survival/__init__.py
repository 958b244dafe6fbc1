"""Metrics and models of times until an event, some of which are censored: the event was not seen until then."""
