"""The join benchmark: probing a loaded model, fitting its speed, keeping the result."""
