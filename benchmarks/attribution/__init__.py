"""Whether time that is put into one segment is found there: `make bench-attribution`."""
