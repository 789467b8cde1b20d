"""What providers and destinations share: values, errors, the context of a call, loading."""
