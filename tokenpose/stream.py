"""Many images: read ahead, batch people across images, keep order."""
