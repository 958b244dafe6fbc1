"""How the image is read: files in, checked, de-identified, turned into arrays and views."""
