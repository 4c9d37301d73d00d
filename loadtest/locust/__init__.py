"""Load tests of a running endpoint with locust: any server that speaks OpenAI's API."""
