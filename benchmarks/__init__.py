"""What is measured, each with its baseline in the same call: `python -m benchmarks [names…] [--quick]`."""
