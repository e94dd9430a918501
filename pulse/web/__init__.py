"""What is served beside the application: the JSON API and the health addresses."""
