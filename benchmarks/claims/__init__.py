"""What has been measured: records in benchmarks/results/, the runs that write them, the text made from them."""
