"""Moving bytes: worker processes that send prepared requests and time the answers."""
