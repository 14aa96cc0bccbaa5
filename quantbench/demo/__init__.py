"""Demo models and photos, loaded from installed packages or built on the spot; nothing of them is redistributed."""
