"""Write the most confident errors with saliency maps."""
