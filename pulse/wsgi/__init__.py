"""From a claim to a WSGI call, and from the response to a result."""
