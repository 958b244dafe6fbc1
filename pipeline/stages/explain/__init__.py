"""explain: write the most confident errors with saliency maps."""
