"""The OpenAPI document, made from the types that decode requests and encode answers, and the page that shows it."""
