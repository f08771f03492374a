"""The doors: what carries a request to a server and brings its response back."""
