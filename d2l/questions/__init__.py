"""Questions: what a person might ask about a text, with answers, and where these stand."""
