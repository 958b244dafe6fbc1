"""explain: show the most confident errors and saliency maps."""
