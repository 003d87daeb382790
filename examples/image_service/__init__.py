"""An image API that reads the text in images by OCR and caches the results in Redis."""
