"""An image API: text is read from images by OCR, and what was read is kept in Redis."""
