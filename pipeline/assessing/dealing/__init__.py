"""Who is trained on and who is judged, and what must not cross between them."""
