"""The article's deployment: the insurance model behind rest_model_service, cached in Redis."""
