"""What a request has fetched from elsewhere: images by http(s), from hosts that the operator lists and no others."""
