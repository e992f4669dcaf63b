"""Benchmarks of wattfill beside its peers, on named and seeded workloads."""
