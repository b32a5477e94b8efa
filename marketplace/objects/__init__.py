"""How objects are shown: in the answers of the REST API and in webhooks alike, so that a program reads both with one type."""
