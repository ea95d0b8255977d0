"""Where models run: versions, leases, placements and backends."""
